"""What every view promises, measured: the budget is used, rules stay, every language is found.

Sessions longer than the budget, before and after compactions; rules that people state, over a thousand
compactions; facts in ten scripts, asked for in their own words and in another form.
"""

from __future__ import annotations

import uuid
from random import Random
from typing import Any

from burnish.memory import MemoryStore

TENANT = "bench"
BUDGETS = (300, 1200, 3000)
RULES = (
    "Never deploy on a Friday.",
    "Please always answer in metric units.",
    "You must never share the gate code with visitors.",
    "From now on, write dates as year-month-day.",
    "The staging host is slow. Under no circumstances restart it without asking me.",
    "Antworte immer auf Deutsch, wenn ich deutsch schreibe.",
    "No compartas nunca mi dirección.",
    "Никогда не удаляй резервные копии.",
    "请永远不要删除日志。",
    "必ず単位を書いてください。",
)
# A fact, then a query in its own words, then one in an inflected or accented form.
SCRIPTS = {
    "Latin": ("Das Café öffnet um neun in der Königstraße.", "Café öffnet", "cafe konigstrasse"),
    "Greek": ("Ο κωδικός του λιμανιού είναι ζέβρα.", "κωδικός ζέβρα", "ΚΩΔΙΚΟΣ λιμάνι"),
    "Cyrillic": ("Пароль хранится в Москве у Ирины.", "пароль Москве", "москва Ирина"),
    "Arabic": ("رمز البوابة محفوظ في الكتاب الأزرق.", "رمز البوابة", "كِتاب أزرق"),
    "Hebrew": ("הקוד של השער נמצא במגירה הכחולה.", "הקוד השער", "שַׁעַר מגירה"),
    "Devanagari": ("गोदाम की किताबें नीले कमरे में हैं।", "गोदाम किताबें", "किताब कमरा"),
    "Thai": ("รหัสประตูอยู่ในลิ้นชักสีฟ้า", "รหัสประตู", "ลิ้นชัก"),
    "Han": ("倉庫の鍵ではなく仓库的钥匙在蓝色抽屉里。", "仓库的钥匙", "蓝色"),
    "Kana": ("かぎはキッチンのひきだしにあります。", "キッチンのひきだし", "ｷｯﾁﾝ"),
    "Hangul": ("창고 열쇠는 서울에서 찾을 수 있습니다.", "창고 열쇠는", "서울 열쇠"),
}


async def budget_used(store: MemoryStore, steps: int = 400, seed: int = 0) -> dict[str, Any]:
    """The least share of its budget that a default view used, and the fewest messages it had; among
    short steps and pages of thousands of tokens."""
    rng, session = Random(seed), f"used-{uuid.uuid4().hex}"
    least, fewest = 1.0, 10**9
    for number in range(steps):
        words = rng.choice((8, 20, 60)) if number % 40 else 4000
        text = " ".join(rng.choice(_WORDS) for _ in range(words))
        role = "assistant" if number % 2 else "user"
        await store.append(TENANT, session, [{"role": role, "content": f"{number}: {text}"}])
        if number % 20 == 19:
            for budget in BUDGETS:
                policy = rng.choice(("recent", "bm25", "summary", "clear_tools"))
                for _ in range(2):
                    view = await store.context(TENANT, session, budget)
                    least = min(least, view["tokens"] / budget)
                    fewest = min(fewest, len(view["messages"]))
                    await store.compaction.compact(TENANT, session, policy, int(budget * 0.4))
    return {"least_share": round(least, 4), "fewest_messages": fewest}


async def rules_lost(store: MemoryStore, compactions: int = 1000, seed: int = 0) -> dict[str, int]:
    """How many rules a view of 2,000 tokens lacked after any of so many compactions."""
    rng, session = Random(seed), f"rules-{uuid.uuid4().hex}"
    stated: list[str] = []
    lost = 0
    for number in range(compactions):
        texts = [" ".join(rng.choice(_WORDS) for _ in range(12)) for _ in range(3)]
        if number % (compactions // len(RULES)) == 0 and len(stated) < len(RULES):
            stated.append(RULES[len(stated)])
            around = " ".join(rng.choice(_WORDS) for _ in range(rng.choice((0, 5, 300))))
            texts[0] = f"{around}. {stated[-1]}" if around else stated[-1]
        if number % 25 == 0:
            roles = ("user", "assistant", "user")
            events = [{"role": r, "content": t} for r, t in zip(roles, texts, strict=True)]
            await store.append(TENANT, session, events)
        policy = rng.choice(("recent", "bm25", "clear_tools"))
        await store.compaction.compact(TENANT, session, policy, 800)
        view = await store.context(TENANT, session, 2000)
        shown = "\n".join(message["content"] for message in view["messages"])
        lost += sum(rule not in shown for rule in stated)
    return {"compactions": compactions, "rules": len(stated), "lost": lost}


async def scripts_found(store: MemoryStore) -> dict[str, Any]:
    """Facts in ten scripts among each other: which were not the best match of their queries, in
    sessions and in records."""
    session = f"scripts-{uuid.uuid4().hex}"
    facts = {script: case[0] for script, case in SCRIPTS.items()}
    await store.append(TENANT, session, [{"role": "user", "content": f} for f in facts.values()])
    for fact in facts.values():
        await store.records.put(session, {"text": fact})
    missed = []
    for script, (fact, *queries) in SCRIPTS.items():
        for query in queries:
            steps = await store.search(TENANT, session, query, 1)
            records = await store.records.search(session, query, limit=1)
            if [step["content"] for step in steps] != [fact]:
                missed.append(f"{script}: {query} (session)")
            if [record["text"] for record in records] != [fact]:
                missed.append(f"{script}: {query} (records)")
    return {"scripts": len(SCRIPTS), "missed": missed}


_WORDS = [
    "report",
    "table",
    "river",
    "copper",
    "lantern",
    "meeting",
    "invoice",
    "window",
    "garden",
    "signal",
    "ladder",
    "basket",
    "harbour",
    "engine",
    "paper",
    "summer",
    "winter",
    "market",
    "bridge",
    "ticket",
    "number",
    "colour",
    "budget",
    "driver",
]
