"""Rules: sentences in which a person lays down what is never, or always, to be done.

Such a step is pinned when it is appended, so that no compaction can drop what it demands. Recognised
by its words ("never", "always", "from now on" and the like in two dozen languages), since a model
would make appending slow and its verdict uncertain. Narration ("I have never been there"), questions,
quotations and code do not count. A rule taken for one by mistake costs a sentence, and can be unpinned.
"""

import re

MOST = 8  # sentences of one step
LONGEST = 400  # characters of one sentence

_WORDS = (
    "never|always|not ever|don't ever|under no circumstances|at all times|from now on|without exception",
    "must not|mustn't|in no case",
    "niemals|nie wieder|immer|stets|auf keinen fall|keinesfalls|ab jetzt|ab sofort",
    "jamais|toujours|désormais|en aucun cas",
    "nunca|jamás|siempre|bajo ninguna circunstancia|sempre|mai più|non .{1,40} mai",
    "nooit|altijd|aldrig|aldri|alltid|altid|nigdy|zawsze|nikdy|vždy|soha|mindig",
    "никогда|всегда|ніколи|завжди|ποτέ|πάντα",
    "asla|her zaman|jangan pernah|selalu|không bao giờ|luôn luôn",
    "لا .{1,40} أبدا|أبدًا|دائما|دائمًا|לעולם|תמיד|कभी भी|कभी न|कभी नहीं|हमेशा",
)
_UNSPACED = (
    "绝不|绝对不|永远|总是|始终|务必|禁止|不得|決して|絶対に|必ず|常に|절대|항상|반드시|ห้าม|เสมอ"
)
_RULE = re.compile(rf"\b(?:{'|'.join(_WORDS)})\b|{_UNSPACED}", re.IGNORECASE)
_NARRATION = re.compile(
    r"\b(?:i|he|she|it|they|who|there)(?:['’](?:ve|s|d|ll))?"
    r"(?: (?:have|has|had|was|were|am|are|is|would|could|did|does|do|almost|nearly))*"
    r" (?:never|always)\b(?! (?:want|need|prefer|expect))"
    r"|\b(?:have|has|had|almost|nearly|as) (?:never|always)\b|\bnever mind\b|\balways been\b",
    re.IGNORECASE,
)
_SENTENCE = re.compile(r"\n|(?<=[.!?;]) |(?<=[。！？；।])")
_FENCED = re.compile(r"```.*?(?:```|\Z)", re.DOTALL)


def rules(text: str) -> list[str]:
    """The sentences of `text` that state a rule, in order; at most MOST of at most LONGEST characters."""
    if not _RULE.search(text):
        return []
    sentences = (part.strip() for part in _SENTENCE.split(_FENCED.sub("\n", text)))
    found = (s[:LONGEST] for s in sentences if _states_rule(s))
    return list(dict.fromkeys(found))[:MOST]


def _states_rule(sentence: str) -> bool:
    if sentence.startswith(">") or sentence.endswith(("?", "？", "؟")):
        return False
    return bool(_RULE.search(_NARRATION.sub("", sentence)))
