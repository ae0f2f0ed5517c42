"""The words of the held-out talks: nothing is trained on them."""

from burnish.learner.compactor.talk_topic import TalkWords
from burnish.learner.compactor.talk_topics_heldout import TOPICS

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
NEWS = tuple(
    part.split("|")
    for part in (
        "my godmother|the janitor|our captain|her ex|the dentist|my sister-in-law|the choir"
        "|the electrician|my old teacher|the guy upstairs|our coach|my mum|the vet|I",
        "fixed|dropped|won|wrapped|burned|rented|stole|ironed|dragged|misplaced|weighed|mailed"
        "|buried|filmed|scrubbed|swapped",
        "the dishwasher|a wheelbarrow|the passports|a carpet|three lamps|the anchor|a backpack"
        "|the hedge trimmer|her earphones|a doll's house|the toaster|some benches|a trumpet",
        "at the airport|in the attic|behind the chapel|on the ferry|by the canal|in the corridor"
        "|at the fair|in the courtyard|under the stairs|near the gym|at the bakery",
        "last night|on Tuesday|two weeks back|after lunch|in November|in the fog|once more"
        "|at dawn|on the 8th|the other day|during the news|in a hurry",
    )
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
NAMES = [
    "Anselm",
    "Birgit",
    "Cosimo",
    "Dolores",
    "Edvard",
    "Fiona",
    "Goran",
    "Helmi",
    "Ines",
    "Joaquin",
    "Kirsten",
    "Mirela",
]
TIMES = [
    "on Monday",
    "the other day",
    "last month",
    "on the 27th of June",
    "a fortnight ago",
    "over Easter",
    "last night",
    "on Thursday evening",
    "the week before last",
    "in October",
]

HELDOUT = TalkWords(TOPICS, CHAT, NEWS, REACTIONS, CHANGES, REQUESTS, FILLER, ERRANDS, NAMES, TIMES)
