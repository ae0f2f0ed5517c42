"""Topics of the held-out talks: nothing is trained on them. See talk_topic.py."""

from burnish.learner.compactor.talk_topic import Topic
from burnish.learner.compactor.talk_topics_heldout_more import MORE

TOPICS = (
    Topic(
        "garden",
        ["artichokes", "a fig tree", "dahlias", "okra", "rhubarb", "sweet peas", "a quince"],
        ("In the garden.", "About what I plant this year.", "My crop!"),
        (
            "Dirt under every nail, but {x} went into the ground {when}.",
            "Against all advice I am trying {x} on the south side.",
            "You should see {x} behind the shed, taller than me!",
        ),
        (
            ("What will you grow this season?", "{x}, and if the slugs win again I give up."),
            ("Is that bed by the fence still empty?", "Not any more. {x}!"),
        ),
        ("What did {who} plant in the garden?", "Which crop is {who} cultivating?"),
        ("What did I plant?", "Which crop was I trying to grow?"),
        (
            "Everything in our garden is dead or eaten.",
            "Watering plants is my meditation.",
            "The garden centre was packed with people buying crops of nonsense.",
            "I killed a cactus once, that says it all.",
        ),
        (
            "Plant after the last frost and water in the early hours.",
            "Rotate crops so that no bed grows the same family twice.",
            "A garden needs compost more than it needs fertiliser.",
            "Mulch keeps the soil moist and the weeds down.",
        ),
        whens=("When did {who} plant it?",),
        several=("What does {who} grow in the garden?", "Which crops has {who} planted?"),
    ),
    Topic(
        "concert",
        [
            "Sigur Ros",
            "a brass quintet",
            "Fado em Chama",
            "The Velvet Herons",
            "Mahler's Fifth",
            "DJ Kestrel",
        ],
        ("The concert.", "About those musicians.", "I saw someone perform."),
        (
            "My ears are still ringing, {x} played for three hours {when}.",
            "Front row! {x}! I have no voice left!",
            "Scored two seats for {x}, one has your name on it.",
        ),
        (
            ("You look tired, late night?", "Worth every minute, it was {x} at the old mill."),
            ("Who are you seeing live next?", "{x}, if the strike doesn't stop the trains."),
        ),
        ("Which musicians did {who} see perform?", "What concert did {who} attend?"),
        ("Which concert did I have tickets for?", "Who did I see perform?"),
        (
            "Concert tickets cost as much as rent.",
            "I sang in a choir once, the musicians asked me to stop.",
            "Live music is too loud for me these days.",
            "The festival was rained out, mud up to the knees.",
        ),
        (
            "Arrive an hour early when seats at a concert are not numbered.",
            "Ear plugs for musicians let you hear the music and keep your hearing.",
            "Check the resale page of the venue a day before the performance.",
            "Smaller halls often sound better than arenas.",
        ),
        whens=("When was the concert {who} attended?",),
        several=("Which artists has {who} seen live?", "What concerts did {who} go to?"),
    ),
    Topic(
        "language",
        ["Basque", "Swahili", "Korean", "Icelandic", "sign language", "Farsi", "Welsh"],
        ("About the language.", "I keep learning.", "Studying again."),
        (
            "Twenty new words of {x} a day, my head is a sieve.",
            "I ordered soup in {x} {when} and got a fork. Progress!",
            "Dreamt in {x} for the first time, it made no sense at all.",
        ),
        (
            ("What's with the flashcards all over the kitchen?", "{x}. I have a hundred days."),
            ("What are you cramming for?", "It's {x}, for the in-laws."),
        ),
        ("Which foreign tongue is {who} studying?", "What language is {who} learning?"),
        ("Which language was I studying?", "What tongue am I trying to learn?"),
        (
            "Languages were my worst subject at school.",
            "Subtitles are the only foreign thing I study.",
            "My tongue twists at every second word.",
            "Everybody speaks three languages here, it's embarrassing.",
        ),
        (
            "Learn a language with short daily lessons and one long talk a week.",
            "Foreign films with subtitles in the same language train the ear.",
            "Write five sentences a day about what you did.",
            "Studying with a partner doubles the time you speak.",
        ),
    ),
    Topic(
        "venture",
        [
            "a bicycle repair van",
            "a candle shop",
            "a translation agency",
            "a podcast studio",
            "a falafel cart",
            "a toy library",
        ],
        ("My own business.", "About the company.", "I start something."),
        (
            "It is real: {x}! The papers came through {when}.",
            "I put all my savings into {x}, wish me luck.",
            "From now on you may call me boss. Of {x}, with one employee: me.",
        ),
        (
            ("So what is the big secret?", "I am opening {x}. There, I said it."),
            ("Still working for somebody else?", "Not since I got {x} off the ground!"),
        ),
        ("What business did {who} start?", "What kind of company did {who} found?"),
        ("What business did I start?", "Which company was I founding?"),
        (
            "Starting a business in this economy? Brave.",
            "My company moved us to a basement without windows.",
            "Small shops are closing everywhere in our street.",
            "I would be the worst boss, I can't even manage my socks.",
        ),
        (
            "A business plan needs a page on costs and a page on customers.",
            "Register the company before you sign a lease.",
            "Found with people who are good at what you are not.",
            "Start small, measure what sells, then grow.",
        ),
        whens=("When did {who}'s papers come through?",),
    ),
    Topic(
        "device",
        ["a Fairphone", "a ThinkPad", "an old Leica", "a Garmin", "a Steam Deck", "a Kobo"],
        ("A new gadget.", "About that device.", "I had to buy something."),
        (
            "After the old one drowned I went for {x}, ordered it {when}.",
            "Say hello to {x}, cheaper than therapy.",
            "Second hand, one scratch, half the price: {x}!",
        ),
        (
            ("New toy?", "Yep, {x}. I read the manual and everything."),
            ("What did you replace the broken one with?", "{x}, my nephew talked me into it."),
        ),
        ("What gadget did {who} buy?", "Which device does {who} use now?"),
        ("Which gadget did I order?", "What device did I buy?"),
        (
            "Gadgets break the day after the warranty ends.",
            "I use my phone for calls, like an animal.",
            "My screen cracked again, third one this year.",
            "Updates ate my whole evening.",
        ),
        (
            "Buy a device whose battery you can replace.",
            "Compare the screen outdoors, not in the shop.",
            "Used gadgets from the maker come with a warranty.",
            "Back up the old device before you set up the new one.",
        ),
        whens=("When did {who} order the gadget?",),
    ),
    *MORE,
)
