"""The words of the talks that the scorer is trained on."""

from burnish.learner.compactor.talk_topic import TalkWords
from burnish.learner.compactor.talk_topics import TOPICS

CHAT = (
    "Hey! How is everything?",
    "Long time no see, how are you holding up?",
    "Haha, that is so typical.",
    "Wow, really? Tell me more!",
    "I know exactly what you mean.",
    "The weather has been awful, my umbrella gave up.",
    "Sorry for the late reply, it was one of those days.",
    "Anyway, how is your mum?",
    "Yeah, I guess so. We will see.",
    "That makes me so happy for you!",
    "I had three coffees and I am still asleep.",
    "Oh no, I am sorry to hear that.",
    "By the way, did you see the game? Unbelievable.",
    "Let's catch up properly soon.",
    "Same here, nothing ever changes.",
    "My phone died in the middle of everything, as always.",
    "I keep telling myself that it gets easier.",
    "You always know what to say.",
    "The kids were up all night, so I am running on fumes.",
    "Good point, I had not thought of that.",
    "Ok, I have to run, talk later!",
    "Thanks for listening, it means a lot.",
    "I found an old photo of us, we look like babies.",
    "Traffic was insane, I sat there for an hour.",
    "No way! I would have paid to see that.",
)
NEWS = tuple(
    part.split("|")
    for part in (
        "my neighbour|the plumber|our landlord|my cousin|the teacher|I|my aunt|the mechanic|we"
        "|the postman|my nephew|a colleague|the twins|my flatmate|the nurse|some tourist",
        "repaired|lost|found|painted|sold|borrowed|broke|washed|carried|forgot|measured|returned"
        "|hid|photographed|cleaned|ordered",
        "the boiler|two ladders|a wallet|the curtains|an umbrella|the spare tyre|a suitcase"
        "|the lawnmower|my glasses|a birdhouse|the blender|forty chairs|a violin case|the keys",
        "at the station|in the cellar|behind the garage|on the roof|by the lake|in the lift"
        "|at the market|in the hallway|under the bridge|near the school|at the pharmacy",
        "yesterday|on Sunday|last week|before breakfast|in April|during the storm|twice|again"
        "|at midnight|on the 12th|three days ago|while it rained",
    )
)
REACTIONS = (
    "Oh wow, {x}? I did not see that coming!",
    "That's great! I am glad it worked out.",
    "Seriously? You have to tell me everything.",
    "Haha, I knew it. Good for you!",
    "{x}, of all things! Well, why not.",
    "Aww. Keep me posted, ok?",
)
CHANGES = (
    "Change of plan, by the way: forget what I said, it is {x} now.",
    "So, funny story. It did not work out, now it's {x}.",
    "I have to correct myself, {x} is the one. Long story.",
)
REQUESTS = (
    "Can you give me a few ideas?",
    "What should I keep in mind?",
    "Could you write me a short plan?",
    "Help me think this through, please.",
    "What would you suggest?",
)
FILLER = (
    "Here are a few things that may help.",
    "Take it step by step, and write down what you notice.",
    "It depends on how much time you have.",
    "Let me know if you would like more detail on any of these points.",
    "Many people find that small changes make the largest difference.",
    "There is no single right answer, but the following is a good start.",
    "Consider what matters most to you before you decide.",
    "You could also ask someone who has done it before.",
)
ERRANDS = (
    "Translate this into French: the meeting is moved to the large room.",
    "Write a polite reminder about an unpaid bill.",
    "Explain how a heat pump works, in plain words.",
    "Give me a recipe with lentils.",
    "What is the difference between a virus and a bacterium?",
    "Make this sentence shorter: due to the fact that it rained, we stayed.",
    "How do I remove a stain from a wool sweater?",
    "Suggest a title for a talk on soil.",
)
NAMES = [
    "Alice",
    "Bruno",
    "Chen",
    "Daria",
    "Emil",
    "Fatima",
    "Gustav",
    "Hana",
    "Igor",
    "Jasmin",
    "Karim",
    "Lena",
    "Mateo",
    "Nadia",
]
TIMES = [
    "yesterday",
    "last Tuesday",
    "two weeks ago",
    "on the 3rd of May",
    "this morning",
    "last weekend",
    "in March",
    "on Friday",
    "the day before yesterday",
    "on the 19th",
]

TRAIN = TalkWords(TOPICS, CHAT, NEWS, REACTIONS, CHANGES, REQUESTS, FILLER, ERRANDS, NAMES, TIMES)
