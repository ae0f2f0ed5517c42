"""More topics of the held-out talks. See talk_topic.py."""

from burnish.learner.compactor.talk_topic import Topic

MORE = (
    Topic(
        "camp",
        ["Lake Orta", "the Black Forest", "Skye", "the Bardenas", "Plitvice", "the Harz"],
        ("Camping.", "About our outdoor spot.", "Where we put the tent."),
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
        [
            "a walnut babka",
            "macarons",
            "a Basque cheesecake",
            "cardamom buns",
            "focaccia",
            "a lemon pavlova",
        ],
        ("I did bake.", "About the dessert.", "Fresh from the oven."),
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
        [
            "acupuncture",
            "a sleep clinic",
            "cold baths",
            "a chiropractor",
            "hypnosis",
            "swimming at six",
        ],
        ("About the pain.", "A treatment that helps.", "What helped me."),
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
        ["800 euros", "a whole month's pay", "2,300 dollars", "650 pounds", "forty boxes of food"],
        ("The charity thing.", "About how much we raised.", "The amount."),
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
        [
            "the old lighthouse",
            "my grandfather's hands",
            "a thunderstorm",
            "the fish market",
            "an empty chair",
        ],
        ("I paint again.", "About my artwork.", "The picture."),
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
