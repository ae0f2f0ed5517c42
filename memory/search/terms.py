"""Tokenisation for search: text to the terms that BM25 counts, in every script.

Text is folded first: NFKC, no case, no accents (vowel signs of Indic scripts stay, they are letters).
Words are runs of letters, digits and underscores; an identifier also counts by its parts
(`max_batch_size` is found by "batch"). Scripts written without spaces (Han, kana, Thai and others, and
Korean, whose particles are glued on) count by pairs of characters, Han by single ones too. An emoji is
a word. Beside each longer word stands its stem, marked "~": its first letters, which weigh little and
find other forms of it; a word of just these letters stands for itself. Left out: stemmers by language, since rare terms decide BM25 anyway.
"""

import re
import unicodedata
from collections import Counter
from functools import lru_cache

MAX_TERM = 64
MAX_TERMS = 2048
MAX_QUERY_TERMS = 192
STEM = "~"  # marks a stem, which weighs STEM_WEIGHT in a query
STEM_WEIGHT = 0.25
STEM_LETTERS = 4

# Marks over letters of Latin, Greek and Cyrillic; Hebrew points; Arabic vowels and lengthening.
_ACCENTS = re.compile(r"[\u0300-\u036f\u0591-\u05bd\u05bf\u05c1-\u05c7\u0640\u064b-\u065f\u0670]")
_INVISIBLE = re.compile(r"[\u00ad\u200b-\u200f\u2060\ufe0e\ufe0f\U0001f3fb-\U0001f3ff]")
_MARKS = "".join(  # vowel signs and the like, which Python does not count as letters
    re.escape(chr(code))
    for code in range(0x0900, 0x1C00)
    if unicodedata.category(chr(code))[0] == "M"
)
_HAN = "\u3400-\u4dbf\u4e00-\u9fff\U00020000-\U0003134f\u3005"
_DENSE = f"{_HAN}\u3041-\u309f\u30a0-\u30ff\uac00-\ud7a3\u0e01-\u0eff\u1000-\u109f\u1780-\u17ff"
_EMOJI = "\u2600-\u27bf\U0001f000-\U0001faff"
_WORD = re.compile(rf"[{_DENSE}]+|[{_EMOJI}]|(?:(?![{_DENSE}])[\w{_MARKS}])+")
_DENSE_RUN = re.compile(rf"[{_DENSE}]+")
_ONE_HAN = re.compile(f"[{_HAN}]")
_CAMEL = re.compile(r"(?<=[a-z0-9])(?=[A-Z])")
_SEMITIC = re.compile(r"[\u05d0-\u05ea\u0620-\u06ff]{3}")
_ARTICLE = re.compile(r"^(?:[وبلكف]?ال|[והבלמשכ])(?=\w{3})")

# Words without content, folded: a query keeps them only where it has no others.
STOP_WORDS = frozenset(
    [
        "a",
        "an",
        "and",
        "are",
        "as",
        "at",
        "be",
        "been",
        "but",
        "by",
        "can",
        "could",
        "did",
        "do",
        "does",
        "for",
        "from",
        "had",
        "has",
        "have",
        "he",
        "her",
        "his",
        "how",
        "i",
        "if",
        "in",
        "is",
        "it",
        "its",
        "me",
        "my",
        "of",
        "on",
        "or",
        "our",
        "she",
        "so",
        "that",
        "the",
        "their",
        "them",
        "then",
        "there",
        "they",
        "this",
        "to",
        "was",
        "we",
        "were",
        "what",
        "when",
        "where",
        "which",
        "who",
        "why",
        "will",
        "with",
        "would",
        "you",
        "your",
        "der",
        "die",
        "das",
        "den",
        "dem",
        "des",
        "ein",
        "eine",
        "einen",
        "und",
        "ist",
        "sind",
        "war",
        "ich",
        "du",
        "er",
        "sie",
        "es",
        "wir",
        "ihr",
        "mit",
        "von",
        "zu",
        "im",
        "nicht",
        "auf",
        "fur",
        "wie",
        "wo",
        "wann",
        "wer",
        "le",
        "la",
        "les",
        "un",
        "une",
        "des",
        "du",
        "et",
        "est",
        "que",
        "qui",
        "dans",
        "pour",
        "pas",
        "il",
        "elle",
        "nous",
        "vous",
        "ou",
        "sur",
        "el",
        "los",
        "las",
        "una",
        "y",
        "es",
        "en",
        "por",
        "para",
        "con",
        "no",
        "se",
        "su",
        "al",
        "lo",
        "como",
        "il",
        "di",
        "che",
        "e",
        "per",
        "non",
        "da",
        "o",
        "os",
        "as",
        "um",
        "uma",
        "de",
        "do",
        "dos",
        "em",
        "и",
        "в",
        "не",
        "на",
        "что",
        "я",
        "он",
        "она",
        "как",
        "это",
        "с",
        "по",
    ]
)


def fold(text: str) -> str:
    """NFKC, no case, no accents, no invisible characters. What people take for the same text."""
    if text.isascii():
        return text.casefold()
    return _without_accents(text).casefold()


def terms(text: str) -> Counter[str]:
    """Term -> occurrences, at most MAX_TERMS distinct ones (the first met), and their stems."""
    counts = words(text)
    for term, count in list(counts.items()):
        for stem in _stems(term) if len(term) != STEM_LETTERS or not term.isascii() else ():
            if stem in counts or len(counts) < 2 * MAX_TERMS:
                counts[stem] += count
    return counts


def words(text: str) -> Counter[str]:
    """The terms without stems."""
    counts: Counter[str] = Counter()
    for match in _WORD.finditer(_without_accents(text)):
        for term in _spellings(match.group()):
            if term in counts or len(counts) < MAX_TERMS:
                counts[term] += 1
    return counts


def query_terms(text: str) -> list[str]:
    """The distinct terms of a query, most frequent first, capped; stop words only where there is
    nothing else. Unfolded words are among them, as earlier versions indexed them."""
    counts = words(text)
    told = Counter({term: n for term, n in counts.items() if term not in STOP_WORDS}) or counts
    found = [term for term, _ in told.most_common(MAX_QUERY_TERMS)]
    stems = [stem for term in found for stem in _stems(term)]
    stems += [term[:STEM_LETTERS] for term in found if term.isascii() and _stems(term)]
    before = [] if text.isascii() else [w.casefold()[:MAX_TERM] for w in re.findall(r"\w+", text)]
    return list(dict.fromkeys([*found, *stems, *before]))[: 2 * MAX_QUERY_TERMS]


def weight(term: str) -> float:
    """How much a query's term counts."""
    return STEM_WEIGHT if term.startswith(STEM) else 1.0


def dense_terms(folded: str) -> list[str]:
    """The terms of those runs in a folded text whose script is written without spaces."""
    runs = [] if folded.isascii() else _DENSE_RUN.findall(folded)
    return [term for run in runs for term in _pairs(run)]


def _without_accents(text: str) -> str:
    if text.isascii():
        return text
    text = _INVISIBLE.sub("", unicodedata.normalize("NFKC", text))
    return unicodedata.normalize("NFC", _ACCENTS.sub("", unicodedata.normalize("NFD", text)))


@lru_cache(maxsize=65536)
def _spellings(word: str) -> tuple[str, ...]:
    if _DENSE_RUN.match(word):
        return _pairs(word)
    whole = word.casefold()[:MAX_TERM]
    parts = [part.casefold()[:MAX_TERM] for part in _CAMEL.sub("_", word).split("_") if part]
    return tuple(dict.fromkeys([whole, *parts]))


def _pairs(run: str) -> tuple[str, ...]:
    pairs = [run[place : place + 2] for place in range(len(run) - 1)] or [run]
    return (*pairs, *(char for char in run if len(run) > 1 and _ONE_HAN.match(char)))


@lru_cache(maxsize=65536)
def _stems(term: str) -> tuple[str, ...]:
    """The marked stems of a word of letters: none of a short word, a number or an identifier; two of
    an Arabic or Hebrew word, whose first letters may be an article or a preposition."""
    if term in STOP_WORDS or "_" in term or not term[0].isalpha() or any(map(str.isdigit, term)):
        return ()
    if _SEMITIC.match(term):
        bare = _ARTICLE.sub("", term, count=1)
        return tuple(dict.fromkeys(STEM + word[:STEM_LETTERS] for word in (term, bare)))
    if len(term) < STEM_LETTERS or _DENSE_RUN.match(term):
        return ()
    return (STEM + term[:STEM_LETTERS],)
