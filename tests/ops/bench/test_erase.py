"""What `make bench-erase` searches with finds what is planted, in files and in every kind of key."""

from pathlib import Path

import pytest
import redis
from burnish.ops.bench.erase import Person, files_with, keys_with


def test_a_trace_is_found_in_any_file_below_a_folder(tmp_path: Path):
    hers, his = Person.new(), Person.new()
    (tmp_path / "deep").mkdir()
    (tmp_path / "deep" / "log").write_bytes(b"\x00" * 100 + hers.marker.encode() + b"\x00")
    (tmp_path / "other").write_text(his.name)
    assert files_with(tmp_path, hers.traces) == ["deep/log"]
    assert files_with(tmp_path, his.traces) == ["other"]
    assert files_with(tmp_path, Person.new().traces) == []


@pytest.mark.parametrize("kind", ["string", "hash", "set", "zset", "list", "stream", "name"])
def test_a_trace_is_found_in_any_kind_of_key(redis_client: redis.Redis, kind: str):
    person = Person.new()
    match kind:
        case "string":
            redis_client.set("k", f"a {person.name}")
        case "hash":
            redis_client.hset("k", "field", person.marker)
        case "set":
            redis_client.sadd("k", person.marker)
        case "zset":
            redis_client.zadd("k", {person.name: 1})
        case "list":
            redis_client.rpush("k", person.marker)
        case "stream":
            redis_client.xadd("k", {"value": person.marker})
        case _:
            redis_client.set(f"of {person.name}", "")
    assert len(keys_with(redis_client, person.traces)) == 1
    assert keys_with(redis_client, Person.new().traces) == []
