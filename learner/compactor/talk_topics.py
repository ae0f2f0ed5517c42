"""What people tell each other in the simulated talks that the scorer is trained on.

A topic is a fact about a person's life: how it is told outright, or asked for and answered in few
words; how somebody asks about it weeks later, mostly in other words; talk that uses the same words
and tells nothing; and what an assistant writes about it at length. `{x}` is the value, `{when}` a
time, `{who}` the person, `{other}` somebody else. Left out: the topics of the held-out sets
(talk_topics_heldout.py), which share no wording with these.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True)
class Topic:
    """`several` marks a topic of which one person may have many."""

    name: str
    values: Sequence[str]
    leads: Sequence[str]  # say what it is about, in words that a question may share
    tells: Sequence[str]  # with {x}, some with {when}
    exchanges: Sequence[tuple[str, str]]  # the other's question, an answer with {x}
    questions: Sequence[str]  # about {who}
    own: Sequence[str]  # the same, asked by the person of an assistant
    chat: Sequence[str]
    advice: Sequence[str]
    whens: Sequence[str] = ()  # questions after the time of a told {when}
    several: Sequence[str] = ()  # questions after all values


TOPICS = (
    Topic(
        "pet",
        ["Biscuit", "Moxie", "Waffles", "Juno", "Pickle", "Sergeant", "Clementine", "Otto"],
        ("Dog news!", "About the dog's name.", "You asked about the new animal."),
        (
            "We picked the puppy up {when}. Everyone voted and {x} won.",
            "The little one is finally home! He answers to {x} already.",
            "Meet {x}, four legs, no manners, chewed my left shoe within the hour.",
        ),
        (
            ("Did you agree on what to call the dog?", "After endless arguing, {x} it is."),
            (
                "So who is that furry thing in the picture?",
                "Haha, that's {x}! She moved in with us.",
            ),
        ),
        ("What is the name of {who}'s dog?", "What did {who} end up naming the new animal?"),
        ("What is my dog called?", "Remind me what we named our puppy?"),
        (
            "Walking a dog in this rain is no fun at all.",
            "My neighbour's dog barked all night, I could not sleep.",
            "Naming a pet is harder than naming a child, honestly.",
            "I always wanted a puppy but my flat is tiny.",
        ),
        (
            "A puppy needs short walks, several times a day, and a fixed place to sleep.",
            "Choose a dog's name of one or two syllables that does not sound like a command.",
            "Chewing is normal: give the dog toys and keep shoes out of reach.",
            "Reward calm behaviour when the animal meets new people.",
        ),
        whens=("When did {who} get the dog?",),
    ),
    Topic(
        "move",
        ["Ghent", "Tampere", "Leeds", "Porto", "Graz", "Tucson", "Halifax", "Trieste"],
        ("About the move to another city.", "So, where we will live.", "Relocating is happening."),
        (
            "Big news: the contract is signed, we are leaving for {x} {when}.",
            "I grew up in {x}, so the cold never bothered me.",
            "Boxes everywhere. By {when} I will be a citizen of {x}!",
        ),
        (
            ("Where are you two going to live in the end?", "It came down to money, so {x}."),
            ("And have you found a flat?", "Yes! Third floor, in {x}, with a view of a wall."),
        ),
        ("Which city did {who} relocate to?", "Where does {who} live these days?"),
        ("Which city was I going to move to?", "Where did I say my new home is?"),
        (
            "Cities are getting so expensive, nobody can live there any more.",
            "Moving house is the worst, I still have boxes from three years ago.",
            "A friend of mine lives in a house without heating, can you believe it?",
            "I would never move to a big city again.",
        ),
        (
            "Start packing room by room and label each box with the room it goes to.",
            "Compare at least three moving companies and ask what their insurance covers.",
            "Register your new address with the city within two weeks.",
            "A flat that looks cheap may have high heating costs.",
        ),
        whens=("When is {who} moving?",),
    ),
    Topic(
        "job",
        [
            "Northwind",
            "Halcyon Labs",
            "the port authority",
            "Brightside Dental",
            "a bakery chain",
            "the city archive",
        ],
        ("News about the company.", "My new employer, since you ask.", "I got hired!"),
        (
            "They called back {when}: I start at {x} on the first!",
            "I handed in my notice, {x} made me an offer I could not refuse.",
            "Guess who has a badge from {x} now. Me!",
        ),
        (
            ("How did the interviews go?", "Two said no, but {x} said yes!"),
            ("Any news on the work front?", "Actually yes, I signed with {x}."),
        ),
        ("Who is {who}'s employer now?", "Which company hired {who}?"),
        ("Which company did I sign with?", "Who is my new employer?"),
        (
            "Work has been a nightmare, three meetings before ten.",
            "My boss hired another consultant, that makes five.",
            "Interviews make me so nervous, I forget my own name.",
            "One day I will quit my job and open a beach bar.",
        ),
        (
            "Before the interview, read what the company has published in the last year.",
            "Ask your employer for the offer in writing before you resign.",
            "Prepare two examples of work you are proud of, with numbers.",
            "A new job is easier when you ask questions in the first weeks.",
        ),
        whens=("When did {who} hear back about the position?",),
    ),
    Topic(
        "trip",
        [
            "Iceland",
            "the Azores",
            "Kyoto",
            "the Dolomites",
            "Malta",
            "Patagonia",
            "Corsica",
            "Lapland",
        ],
        ("So, the vacation.", "About where I travelled.", "Best destination ever."),
        (
            "We got back {when}, and {x} was beyond anything I had imagined.",
            "Tickets are booked, {x} here I come!",
            "Sunburnt, broke and happy. {x} does that to you.",
        ),
        (
            (
                "Where did you disappear to for two weeks?",
                "Oh, we rented a van and drove around {x}.",
            ),
            ("Which holiday was your best?", "Easy. {x}, and it is not even close."),
        ),
        ("Where did {who} go on vacation?", "Which destination did {who} travel to?"),
        ("Where did I go on holiday?", "Which destination had I booked?"),
        (
            "I need a vacation so badly, even a weekend would do.",
            "Travel is so much work, the queues alone put me off.",
            "My parents always went to the same hotel, every single summer.",
            "The airport lost my suitcase again on that work thing.",
        ),
        (
            "Travel outside the high season: destinations are emptier and flights cheaper.",
            "Pack one bag that you can carry for an hour.",
            "Check visa rules and vaccinations a month before you go.",
            "Plan one thing for each day of the vacation and leave the rest open.",
        ),
        whens=("When was {who}'s vacation?",),
        several=("Which places has {who} travelled to?", "List all the trips {who} took."),
    ),
    Topic(
        "hobby",
        [
            "pottery",
            "the cello",
            "fencing",
            "beekeeping",
            "salsa",
            "calligraphy",
            "rock climbing",
            "woodwork",
        ],
        ("I have a new hobby.", "Something I am learning.", "About that pastime of mine."),
        (
            "So I signed up for {x}, first lesson was {when}. I am terrible at it and love it.",
            "My evenings belong to {x} now, you should see my hands.",
            "I bought all the gear for {x}. No way back!",
        ),
        (
            ("What do you do with all that free time?", "I finally gave in and started {x}."),
            ("Your hands look rough, what happened?", "Ha, that's from {x}. Two evenings a week."),
        ),
        ("What new hobby did {who} pick up?", "Which pastime is {who} learning?"),
        ("Which hobby had I taken up?", "What do I take lessons in?"),
        (
            "I should really get a hobby, all I do is scroll.",
            "Learning anything new after forty is humbling.",
            "My sister has a new hobby every month and finishes none.",
            "Free time? What free time?",
        ),
        (
            "Practise a new skill for twenty minutes a day instead of two hours on Sunday.",
            "A hobby does not have to be useful, it has to be yours.",
            "Borrow the gear before you buy it.",
            "Join a group: learning with others keeps you at it.",
        ),
        whens=("When did {who} have the first lesson?",),
        several=("What hobbies does {who} have?", "Which pastimes has {who} tried?"),
    ),
    Topic(
        "allergy",
        [
            "walnuts",
            "shellfish",
            "penicillin",
            "sesame",
            "bee stings",
            "latex",
            "kiwis",
            "ibuprofen",
        ],
        ("I am allergic, it seems.", "About what I must avoid.", "A health thing."),
        (
            "Spent the night in hospital {when}. Turns out {x} can kill me.",
            "Careful with what you serve, {x} makes my throat close up.",
            "I have to carry a pen with me now because of {x}.",
        ),
        (
            (
                "Is there anything we should leave out for Saturday?",
                "Please no {x}, or you'll be calling an ambulance.",
            ),
            ("Why the red face last time?", "The doctor says it was {x}."),
        ),
        ("What is {who} allergic to?", "What must {who} avoid for health reasons?"),
        ("What am I allergic to?", "What do I have to avoid?"),
        (
            "Everyone seems to be allergic to something these days.",
            "I avoid hospitals like the plague.",
            "Health food is such a scam, I swear.",
            "Cooking for eight people with eight diets is a sport.",
        ),
        (
            "For guests with allergies, keep labels of everything you cook with.",
            "An allergic reaction can come up to two hours after a meal.",
            "Avoid cross contact: use a clean board and a clean knife.",
            "Ask each guest about health restrictions before you plan the menu.",
        ),
    ),
    Topic(
        "race",
        ["3:52", "4:17", "1:44", "2:03", "48 minutes", "5:31"],
        ("The marathon!", "About my finishing time.", "The race is run."),
        (
            "I crossed the line {when} in {x}, then lay on the grass for an hour.",
            "My legs are gone but the clock said {x}!",
            "{x}. Not fast, but I did not walk a single step.",
        ),
        (
            ("And? How was the big run?", "{x}, and I beat my brother."),
            ("Did you make it under your target?", "Just about, {x} on the chip."),
        ),
        ("What was {who}'s finishing time in the marathon?", "How fast did {who} run the race?"),
        ("What was my finishing time?", "How fast did I run?"),
        (
            "Running is boring, I need a ball to chase.",
            "There was a marathon in town and I could not cross the street.",
            "I used to be fast. Used to.",
            "My shoes are finished, no more running until payday.",
        ),
        (
            "Increase your weekly distance by a tenth at most.",
            "In the last week before a marathon, run less and sleep more.",
            "Pick a pace for the race that lets you talk in the first half.",
            "New shoes need fifty kilometres before race day.",
        ),
        whens=("When did {who} run the race?",),
    ),
    Topic(
        "book",
        [
            "Middlemarch",
            "The Overstory",
            "Piranesi",
            "Stoner",
            "Babel",
            "Gilead",
            "Wolf Hall",
            "Austerlitz",
        ],
        ("A book for you.", "What I was reading.", "I recommend a novel."),
        (
            "Could not put {x} down, finished it {when} at three in the morning.",
            "If you only open one novel this year, make it {x}.",
            "I cried on the train because of {x}. People stared.",
        ),
        (
            ("Read anything good lately?", "{x}! Go get it, I'll wait."),
            ("What is on your nightstand?", "Still {x}. The last chapter is killing me."),
        ),
        ("Which book did {who} recommend?", "What was {who} reading?"),
        ("Which novel did I say I loved?", "What was I reading?"),
        (
            "I buy books faster than I can read them.",
            "Our book club is mostly a wine club.",
            "Reading in bed puts me to sleep in two pages.",
            "The library extended its hours, finally.",
        ),
        (
            "If you like long novels, read a chapter a day at a fixed hour.",
            "A book club works best with six to eight people.",
            "Recommend books by mood rather than by genre.",
            "Keep a list of what you were reading and one line on why.",
        ),
        whens=("When did {who} finish the book?",),
        several=("Which books has {who} read?", "What novels did {who} mention?"),
    ),
    Topic(
        "gift",
        [
            "a telescope",
            "a fountain pen",
            "a kayak",
            "pearl earrings",
            "a sourdough kit",
            "a record player",
        ],
        ("The birthday present.", "About the gift.", "So, birthday."),
        (
            "He unwrapped it {when} and went silent: {x}. Best present ever.",
            "I found {x} for her, hidden in the attic until the big day.",
            "They all chipped in and got me {x}, I was speechless.",
        ),
        (
            ("What did you get from your family?", "You won't believe it, {x}!"),
            ("Have you got anything for Grandma yet?", "Yes, {x}. She will pretend to be annoyed."),
        ),
        (
            "What present did {who} talk about for the birthday?",
            "What was the gift {who} mentioned?",
        ),
        ("Which present had I settled on?", "What was the birthday gift?"),
        (
            "Birthdays are for children, I hide on mine.",
            "I never know what present to buy for anyone.",
            "The shops are full of gift nonsense again.",
            "Wrapping paper is a waste, I use newspapers.",
        ),
        (
            "A good gift is something the person would not buy themselves.",
            "For a birthday, an experience often lasts longer than a present.",
            "Ask a sibling what was on last year's wish list.",
            "Set a budget first, then look for gifts.",
        ),
    ),
    Topic(
        "injury",
        ["my wrist", "two ribs", "my ankle", "a collarbone", "my thumb", "my left knee"],
        ("I got hurt.", "About my injury.", "The body is weak."),
        (
            "Slipped on the stairs {when} and broke {x}. Typing this with one finger.",
            "Six weeks without sport, thanks to {x}.",
            "The X-ray was clear enough: {x}, done for.",
        ),
        (
            ("Why were you limping about like that?", "Oh, I did {x} in. Don't ask."),
            ("You look like you were in a fight!", "Just a ladder and me. It's {x}."),
        ),
        ("Which body part did {who} hurt?", "What injury did {who} suffer?"),
        ("Which injury did I have?", "What did I break?"),
        (
            "My back hurts, I am officially old.",
            "Skiing is just paying to get hurt.",
            "The doctor told my uncle to stop with the injuries already.",
            "I broke a plate, a glass and my patience.",
        ),
        (
            "After an injury, start with movements that do not hurt.",
            "Cold helps in the first two days, warmth later.",
            "A broken bone needs six weeks at least, and more before sport.",
            "Ask the doctor which body parts you may load.",
        ),
        whens=("When did {who} get hurt?",),
    ),
    Topic(
        "exam",
        ["organic chemistry", "Roman law", "statistics", "anatomy", "Latin", "thermodynamics"],
        ("The exam.", "About that subject.", "I took the test."),
        (
            "It's official since {when}: I passed {x}!!! Never again.",
            "Sixteen hours a day for {x}, I see formulas when I close my eyes.",
            "They failed half of us in {x}, but not me.",
        ),
        (
            ("Which one is still ahead of you?", "Only {x}, in front of the meanest professor."),
            ("How was it? You look pale.", "{x} was brutal, but it's over."),
        ),
        ("What subject was {who} tested in?", "Which exam did {who} take?"),
        ("Which exam did I pass?", "What subject was I studying for?"),
        (
            "Exams at our age, can you imagine.",
            "I still have dreams about failing a test.",
            "The professor retired, at last.",
            "Students in my tram were singing, at seven in the morning.",
        ),
        (
            "Study for an exam in blocks of forty minutes with breaks between.",
            "Old tests are the best material for any subject.",
            "Explain the subject to a friend: where you stop is what to learn.",
            "Sleep before the test is worth more than two more hours.",
        ),
        whens=("When did {who} pass?",),
    ),
    Topic(
        "restaurant",
        [
            "Osteria Blu",
            "the Golden Carp",
            "Chez Amadou",
            "Little Saigon",
            "Number Nine",
            "Taverna Eleni",
        ],
        ("About the restaurant.", "Where we went to eat.", "I love that place for dinner."),
        (
            "We ended up at {x} {when}, and I would sell my car for that dessert.",
            "I have a table for four at {x}, don't be late.",
            "Nothing beats {x}, even the bread is a poem.",
        ),
        (
            ("Where shall we celebrate?", "{x}, no discussion. I'll call them."),
            ("That soup looks amazing, where was that?", "At {x}, the tiny place by the canal."),
        ),
        ("Which restaurant does {who} love?", "Where did {who} go to eat?"),
        ("Which restaurant did I book?", "Where did I want to have dinner?"),
        (
            "Eating out costs a fortune now.",
            "I cooked pasta again, for the ninth time this month.",
            "That new restaurant has a queue around the block.",
            "Dinner was toast. Do not judge me.",
        ),
        (
            "Book a restaurant on a weekday: kitchens have more time for you.",
            "For dinner with a large group, agree on a set menu.",
            "Look at what the locals eat and order that.",
            "Tip according to the habits of the country.",
        ),
        several=("Which restaurants has {who} been to?", "What places to eat did {who} mention?"),
    ),
)

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
