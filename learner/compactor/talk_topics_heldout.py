"""The topics of the held-out talks: nothing is trained on them. See talk_topics.py."""

from burnish.learner.compactor.talk_topics import Topic

TOPICS = (
    Topic(
        "garden",
        "artichokes|a fig tree|dahlias|okra|rhubarb|sweet peas|a quince".split("|"),
        ('In the garden.', 'About what I plant this year.', 'My crop!'),
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
        "Sigur Ros|a brass quintet|Fado em Chama|The Velvet Herons|Mahler's Fifth|DJ Kestrel".split("|"),
        ('The concert.', 'About those musicians.', 'I saw someone perform.'),
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
        "Basque|Swahili|Korean|Icelandic|sign language|Farsi|Welsh".split("|"),
        ('About the language.', 'I keep learning.', 'Studying again.'),
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
        "a bicycle repair van|a candle shop|a translation agency|a podcast studio|a falafel cart|a toy library".split("|"),
        ('My own business.', 'About the company.', 'I start something.'),
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
        "a Fairphone|a ThinkPad|an old Leica|a Garmin|a Steam Deck|a Kobo".split("|"),
        ('A new gadget.', 'About that device.', 'I had to buy something.'),
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
    Topic(
        "camp",
        "Lake Orta|the Black Forest|Skye|the Bardenas|Plitvice|the Harz".split("|"),
        ('Camping.', 'About our outdoor spot.', 'Where we put the tent.'),
        (
            "Three nights in a tent near {x}, I smell like smoke and I regret nothing.",
            "We pitched at {x} {when}. A fox stole the sausages!",
            "No signal, no showers, just {x} and stars.",
        ),
        (
            ("How was sleeping outdoors with the twins?", "{x} was magic once the rain stopped."),
            ("Did you find a spot for the long weekend?", "Yes, a meadow by {x}."),
        ),
        ("Where did {who} go camping?", "What spot did {who} choose for the outdoor stay?"),
        ("Where did I go camping?", "Which spot did I choose for the tent?"),
        (
            "Camping is just being homeless with a car.",
            "I sleep badly outdoors, every sound is a bear.",
            "The tent is mouldy, I found it in the cellar.",
            "Somebody stole the bikes from the camp site next door.",
        ),
        (
            "Pick a camping spot that is flat and a little raised.",
            "Store food outdoors in a closed box, away from the tent.",
            "A sleeping mat keeps you warmer than a thicker bag.",
            "Tell someone where you stay and when you will be back.",
        ),
        whens=("When was {who} camping?",),
        several=("Where has {who} camped?", "Which outdoor spots did {who} sleep at?"),
    ),
    Topic(
        "baking",
        "a walnut babka|macarons|a Basque cheesecake|cardamom buns|focaccia|a lemon pavlova".split("|"),
        ('I did bake.', 'About the dessert.', 'Fresh from the oven.'),
        (
            "The oven and I made peace {when}: {x}, golden on top.",
            "Flour on the ceiling, but look at {x}!",
            "First prize at the village fair for {x}, me, of all people.",
        ),
        (
            ("What smells so good at your place?", "That would be {x}, come over."),
            ("What are you bringing for the party?", "{x}. Hide it from the children."),
        ),
        ("What did {who} bake?", "Which dessert or bread did {who} make?"),
        ("What did I bake?", "Which recipe won me a prize?"),
        (
            "I can't bake, I burn water.",
            "Dessert is my favourite meal.",
            "Bread prices are a joke now.",
            "My oven has two settings: off and inferno.",
        ),
        (
            "Weigh flour instead of measuring it by the cup.",
            "Bake on the middle rack and turn the tray once.",
            "Bread dough that rests overnight tastes of more.",
            "Let a dessert with eggs cool slowly in the open oven.",
        ),
        whens=("When did {who} bake?",),
        several=("What has {who} baked?", "Which things did {who} make in the oven?"),
    ),
    Topic(
        "therapy",
        "acupuncture|a sleep clinic|cold baths|a chiropractor|hypnosis|swimming at six".split("|"),
        ('About the pain.', 'A treatment that helps.', 'What helped me.'),
        (
            "Laugh all you want, {x} cured my headaches.",
            "I was so desperate that I tried {x} {when}. And it works!",
            "Three months of {x} and I feel thirty again.",
        ),
        (
            ("How is the migraine thing going?", "Better, thanks to {x}."),
            ("You seem so relaxed, what's your secret?", "{x}, don't tell my doctor."),
        ),
        ("Which treatment helped {who}?", "How does {who} deal with the pain?"),
        ("Which treatment worked for me?", "What did I do against the pain?"),
        (
            "Pain is just weakness leaving, says my trainer, who is an idiot.",
            "The waiting list for any treatment is a year.",
            "Stress, stress, stress, that is all I hear.",
            "I sleep four hours and call it a lifestyle.",
        ),
        (
            "Keep a diary of the pain: when it comes and what helped.",
            "A treatment needs a few weeks before you can judge it.",
            "Relax the shoulders whenever you wait for something.",
            "Ask a doctor before you combine treatments.",
        ),
    ),
    Topic(
        "donation",
        "800 euros|a whole month's pay|2,300 dollars|650 pounds|forty boxes of food".split("|"),
        ('The charity thing.', 'About how much we raised.', 'The amount.'),
        (
            "With the flea market we got {x} together {when}, all for the shelter.",
            "The final count is in: {x}! I nearly fainted.",
            "{x}, can you imagine? From a bake sale and a silly raffle.",
        ),
        (
            ("How much came in at the fundraiser?", "{x}. We counted it twice."),
            ("Was it worth all the effort?", "{x} says yes!"),
        ),
        ("How much did {who} raise for charity?", "What amount did {who} collect?"),
        ("How much did I raise for charity?", "What amount did my fundraiser bring in?"),
        (
            "Charity begins at home, my grandmother used to say.",
            "How much does a haircut cost these days? Too much.",
            "I gave my old coats away, the amount of stuff I own is absurd.",
            "Another fundraiser at school, third this term.",
        ),
        (
            "A fundraiser does better with one clear goal and a date.",
            "Tell donors what amount does what.",
            "Thank everyone who gave within a week.",
            "Small amounts collected often beat one large appeal.",
        ),
        whens=("When was {who}'s fundraiser?",),
    ),
    Topic(
        "art",
        "the old lighthouse|my grandfather's hands|a thunderstorm|the fish market|an empty chair".split("|"),
        ('I paint again.', 'About my artwork.', 'The picture.'),
        (
            "Put the brush down {when}. It's {x}, in oil, and I almost like it.",
            "They hung {x} in the town hall, my very own picture!",
            "Someone paid actual money for {x}. I mixed that blue for a week.",
        ),
        (
            ("What is on the easel now?", "{x}, again. I can't get the light right."),
            ("Which one made it into the show?", "{x}, to my surprise."),
        ),
        ("What did {who} paint?", "What is the subject of {who}'s artwork?"),
        ("What did I paint?", "What was the subject of my picture?"),
        (
            "Modern art is lost on me.",
            "My walls are empty, I should paint them at least.",
            "The gallery served warm wine and tiny cheese.",
            "My daughter drew on the sofa, a true artwork.",
        ),
        (
            "Paint from light to dark in watercolour, from dark to light in oil.",
            "Choose a subject you can look at for an hour.",
            "An artwork needs one place where the eye rests.",
            "Frame the picture with a wide margin.",
        ),
        whens=("When did {who} finish the artwork?",),
        several=("What has {who} painted?", "Which subjects did {who} paint?"),
    ),
)

CHAT = (
    "Morning! Did you sleep at all?",
    "Ugh, Mondays.",
    "Hahaha, stop it, I'm in a meeting.",
    "Oh my, I can picture it perfectly.",
    "What a week, and it is only Wednesday.",
    "You two are the best, honestly.",
    "Right? That's what I said!",
    "The bus broke down, so I walked. In heels.",
    "I have been meaning to write to you for ages.",
    "How's your dad doing, still stubborn?",
    "Hm, not sure about that one.",
    "So proud of you!!",
    "My neighbour is drilling again. On a Sunday.",
    "That sounds rough, I'm here if you need me.",
    "Did you watch the final? My heart can't take it.",
    "Miss you guys.",
    "The fridge is making that noise again.",
    "Fair enough, I would have done the same.",
    "I laughed so hard that the cat ran away.",
    "Nothing new here, same old circus.",
    "Got to go, the doorbell!",
    "Bless you for saying that.",
    "Remember that awful hotel? I told the story at dinner.",
    "It's so hot that the street is melting.",
    "Shut up, you did not!",
)
REACTIONS = (
    "Wait, {x}? I need details!",
    "Look at you! That's brilliant.",
    "I'm jealous, not going to lie.",
    "{x}! My aunt would faint.",
    "Well deserved, after all that.",
    "Love it. Send pictures!",
)
CHANGES = (
    "Ok so ignore my last message about this, {x} won in the end.",
    "Plot twist: we dropped that, {x} instead.",
    "You'll laugh, I swapped it for {x}.",
)
REQUESTS = (
    "Any tips?",
    "Draft something I can use, would you?",
    "What are the pitfalls?",
    "Walk me through it.",
    "How would you go about it?",
)
FILLER = (
    "Sure, happy to help with that.",
    "Below is an outline that you can adapt.",
    "The main thing is to begin, and to adjust as you go.",
    "If anything is unclear, ask and I will go deeper.",
    "Costs vary by region, so treat these as rough guides.",
    "A checklist keeps you from forgetting the boring parts.",
    "Each of these can be done in an afternoon.",
    "Think about who else is affected.",
)
ERRANDS = (
    "Rewrite this note so that it sounds friendlier: send the files today.",
    "Summarise the causes of the French Revolution in five lines.",
    "Which knots should a beginner sailor know?",
    "Turn these numbers into a table: 4, 8, 15, 16.",
    "Why is the sky red at sunset?",
    "Give me three synonyms of clever.",
    "How long do I boil an egg at altitude?",
    "Plan a quiz night with ten questions.",
)
NAMES = "Anselm Birgit Cosimo Dolores Edvard Fiona Goran Helmi Ines Joaquin Kirsten Mirela".split()
TIMES = (
    "on Monday|the other day|last month|on the 27th of June|a fortnight ago|over Easter|last night"
    "|on Thursday evening|the week before last|in October"
).split("|")
