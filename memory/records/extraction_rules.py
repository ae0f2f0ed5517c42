"""Rules of patterns.py: the words and forms that distinguish facts from text that resembles them."""

import re


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


FENCE = re.compile(r"```.*?(?:```|\Z)", re.S)
SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z\"'(])")
CLAUSE = re.compile(r",?\s+(?:and|but)\s+(?=(?:my|our|the|I|I'm|we)\b)|;\s+|,\s+(?=my\b|I\b)")
SETTING = re.compile(
    r"(?:[-*•]\s+)?(?:export\s+|set\s+)?(?P<key>[A-Za-z][\w./ -]{0,48}?)\s*(?P<sign>[:=])"
    r"(?P<value>(?<=:)\s+\S.{0,160}|(?<==)\s*\S.{0,160})"
)
OPENING = re.compile(
    r"^(?:(?:ok(?:ay)?|so|well|also|and|hi|hello|hey|please|yes|no|fyi|note that|btw|by the way"
    r"|remember(?: that)?|for the record|just so you know|actually|update|correction|note"
    r"|keep in mind that|for your information|heads up|one more thing|quick update)\b[,:!]*\s+)+",
    re.I,
)
QUESTION = re.compile(
    r"(?:what|who|whom|whose|which|when|where|why|how|is|are|was|were|do|does|did|can|could|will"
    r"|would|shall|should|may|has|have|had)\b(?!\s+(?:is|are)\b)",
    re.I,
)
DOUBT = re.compile(
    r"\b(?:if|unless|whether|maybe|perhaps|probably|possibly|might|may be|could|would|wouldn't"
    r"|should|shouldn't|suppose|imagine|assume|assuming|pretend|wish|hope|guess|think|believe"
    r"|not sure|unsure|supposedly|apparently|rumou?r|hypothetically|for example|e\.g\.|such as"
    r"|used to|(?:was|were)(?! (?:just )?(?:changed|moved|switched|renamed|updated|bumped"
    r"|raised|lowered|increased|reduced|set|upgraded))|had been|isn't|aren't|not|no longer|never been|doesn't|don't know|don't"
    r"|said that|says that|claims?|claimed|joking|kidding|will be|going to|in the movie|novel"
    r"|once upon)\b",
    re.I,
)
TRAILING = re.compile(
    r"(?:,?\s+(?:now|from now on|instead|these days|at the moment|currently|as of (?:today|now)"
    r"|starting today|today|again|please|by the way|too|as well|for now|thanks|since \w+))+[.!]*$",
    re.I,
)
ARTICLE = re.compile(r"^(?:the|our|a|an|this|my)\s+", re.I)
IDENTIFIER = re.compile(r"\d|[A-Z][a-z]|[A-Z]{2}|[_/@\\]|\w\.\w|`|\"")
POINTING = _words("""
    it this that these those there here he she they we you i what which who everything nothing
    something anything someone everyone one thing things reason problem point idea question
    issue trouble fact truth rest answer
""")
NO_KEY = _words("""
    http https ftp step line error warning warn info debug trace fatal at in on
""")
LABELS = _words("""
    note notes question answer example examples ps p.s todo summary user assistant system tool
    hint tip warning important result output input edit update reply re subject fwd thanks
    conclusion background context task goal steps usage see
""")
VAGUE = _words("""
    that what why how where who which because really very so too quite pretty it this there
    being going getting almost nearly just still about like as if to somewhat kind sort such all
    both only also always never often
""")
EMPTY = _words("""
    good great fine ok okay nice bad wrong right true false done ready here there broken slow
    fast easy hard difficult simple important interesting beautiful unknown unclear tbd none
    nothing something yes no sure possible impossible better worse best worst over late early
""")
ATTRIBUTES = _words("""
    name address email phone number port region zone host hostname server url uri link id key
    token password passphrase pin code version budget limit quota deadline date owner manager
    timezone language locale branch database schema bucket queue topic birthday city country
    hometown employer company job role title profession team status colour color size weight
    height price cost rate timeout threshold path folder directory format currency plan tier
    username login nickname pronouns doctor dentist contact supplier vendor model colour mode
    level theme editor framework os shell
""")
NOT_A_JOB = _words("""
    bit little fan lot big huge person little while man woman human morning
""")
