"""Words that the built-in pack's tasks are made of."""

NAMES = (
    "Ada", "Ben", "Carla", "David", "Elena", "Farid", "Grace", "Hugo", "Ines", "Jonas", "Kofi",
    "Lena", "Mira", "Noah", "Olga", "Pablo", "Ravi", "Sara", "Tomas", "Yuki",
)  # fmt: skip
THINGS = (
    "apples", "books", "candles", "coins", "eggs", "keys", "lemons", "marbles", "notebooks",
    "oranges", "pencils", "plates", "shells", "stamps", "tickets",
)  # fmt: skip
TOPICS = (
    "the sea", "a rainy day", "bicycles", "honey bees", "a small village", "the moon", "bread",
    "trains", "a good friend", "winter", "music", "a garden", "a library", "coffee", "mountains",
    "an old clock", "football", "a market", "wild birds", "a long journey",
)  # fmt: skip
KEYWORDS = (
    "bright", "quiet", "river", "morning", "window", "careful", "golden", "together", "simple",
    "warm", "little", "forest", "winter", "evening", "slowly", "happy", "ancient", "silver",
)  # fmt: skip
COLOURS = ("red", "blue", "green", "yellow", "black", "white", "purple", "orange", "grey", "brown")
CITIES = (
    "Paris", "Rome", "Lisbon", "Vienna", "Oslo", "Dublin", "Athens", "Madrid", "Prague", "Cairo",
    "Tokyo", "Lima", "Nairobi", "Sydney", "Boston",
)  # fmt: skip
