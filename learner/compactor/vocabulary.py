"""The names that worlds are filled with: services, people, settings, tasks and so on.

Each table comes in two disjoint splits; only `train` is trained on.
"""

from collections.abc import Mapping

SPLITS = ("train", "heldout")

SERVICES = {
    "train": "billing auth search ledger mailer gateway catalog invoice payments inventory "
    "shipping profile session-store metrics scheduler webhook thumbnailer exporter importer "
    "recommender quota audit notifier resolver",
    "heldout": "aurora basalt cobalt drift ember-api falcon granite harbor indigo juniper kestrel "
    "lagoon meadow nimbus onyx prairie quartz ridge saffron tundra umbra vertex willow zephyr",
}
PEOPLE = {
    "train": "Alice Bruno Chen Daria Emil Fatima Gustav Hana Igor Jasmin Karim Lena Mateo Nadia "
    "Oskar Priya Quentin Rosa Samir Tara Ulrich Vera Wanda Yusuf",
    "heldout": "Anselm Birgit Cosimo Dolores Edvard Fiona Goran Helmi Ines Joaquin Kirsten Luca "
    "Mirela Niklas Oluchi Paavo Rahel Sigrid Tomasz Uwe Valeria Wiktor Xenia Zoltan",
}
ATTRS = {
    "train": "port|region|timeout|replica count|log level|version|bucket|rate limit|branch|owner group",
    "heldout": "memory limit|zone|retention|batch size|endpoint|worker count|queue|priority",
}
TASKS = {
    "train": "flaky-login slow-export memory-leak double-charge lost-webhooks broken-build "
    "stuck-queue wrong-totals missing-rows timeouts",
    "heldout": "ghost-orders torn-reads cold-start clock-skew silent-drop twisted-dates "
    "runaway-retry stale-index",
}
APPROACHES = {
    "train": "raising the timeout|clearing the cache|pinning the version|restarting workers|"
    "adding an index|rolling back|disabling retries|sharding the table|swapping the driver|"
    "rebuilding the image|widening the pool",
    "heldout": "rewriting the query|draining the node|doubling the heap|reordering writes|"
    "mocking the clock|bisecting commits|forcing a resync|splitting the batch|locking the row",
}
CUSTOMERS = {
    "train": "Acme Borealis Contoso Dynaco Everline Fabrikam Globex Hooli Initech Jarvis",
    "heldout": "Umbrella Veridian Wayfarer Xylos Yonder Zentra Tarsus Solstice",
}
SUITES = {
    "train": "unit-core unit-api integration-db smoke e2e-web load-basic",
    "heldout": "contract-v2 regression-full fuzz-parser nightly-perf canary-checks",
}
FILES = {
    "train": "/etc/app/{}.toml",
    "heldout": "/srv/conf/{}.ini",
}
KEYS = {
    "train": "max_connections idle_seconds pool_size retry_limit cache_bytes listen_backlog "
    "flush_every worker_threads queue_depth page_rows",
    "heldout": "grace_period shard_factor spill_limit burst_tokens lease_ttl probe_interval "
    "merge_width scan_window",
}


def names(table: Mapping[str, str], split: str) -> list[str]:
    """The entries of a table's split."""
    text = table[split]
    return text.split("|") if "|" in text else text.split()
