"""The memory tool's commands, in the texts its documentation gives; paths that stay inside."""

import asyncio
from typing import Any

import pytest
from burnish.memory import BadStep, MemoryStore, TooLarge
from burnish.memory.records.files import MAX_FILE_BYTES

NOTES = "/memories/notes.txt"


async def run(store: MemoryStore, tenant: str, command: str, user: str = "ana", **given: Any):
    return await store.files.run(tenant, user, {"command": command, **given})


async def said(store: MemoryStore, tenant: str, command: str, **given: Any) -> str:
    answer = await run(store, tenant, command, **given)
    assert not answer.is_error, answer.content
    return answer.content


async def refused(store: MemoryStore, tenant: str, command: str, **given: Any) -> str:
    answer = await run(store, tenant, command, **given)
    assert answer.is_error, answer.content
    return answer.content


async def test_a_file_from_create_to_delete(store: MemoryStore, tenant: str):
    made = await said(store, tenant, "create", path=NOTES, file_text="one\ntwo\nthree\n")
    assert made == f"File created successfully at: {NOTES}"
    text = await said(store, tenant, "view", path=NOTES)
    head = f"Here's the content of {NOTES} with line numbers:"
    assert text == f"{head}\n     1\tone\n     2\ttwo\n     3\tthree\n     4\t"
    some = await said(store, tenant, "view", path=NOTES, view_range=[2, 3])
    assert some == f"{head}\n     2\ttwo\n     3\tthree"
    edited = await said(store, tenant, "str_replace", path=NOTES, old_str="two", new_str="2\n2b")
    assert edited.startswith("The memory file has been edited.\n     1\tone\n     2\t2\n")
    added = await said(store, tenant, "insert", path=NOTES, insert_line=0, insert_text="zero")
    assert added == f"The file {NOTES} has been edited."
    files = await store.files.all(tenant, "ana")
    assert files == {NOTES: "zero\none\n2\n2b\nthree\n"}
    moved = await said(store, tenant, "rename", old_path=NOTES, new_path="/memories/a/b.txt")
    assert moved == f"Successfully renamed {NOTES} to /memories/a/b.txt"
    assert await said(store, tenant, "delete", path="/memories/a") == (
        "Successfully deleted /memories/a"
    )
    assert await store.files.all(tenant, "ana") == {}


async def test_a_folder_is_listed_two_levels_deep(store: MemoryStore, tenant: str):
    for path, text in {
        "/memories/a.txt": "x" * 1536,
        "/memories/d/b.txt": "xx",
        "/memories/d/e/c.txt": "xxx",
        "/memories/.hidden": "x",
        "/memories/node_modules/m": "x",
    }.items():
        await said(store, tenant, "create", path=path, file_text=text)
    listing = await said(store, tenant, "view", path="/memories/")
    assert listing == (
        "Here're the files and directories up to 2 levels deep in /memories,"
        " excluding hidden items and node_modules:\n"
        "1.5K\t/memories\n1.5K\t/memories/a.txt\n5\t/memories/d\n2\t/memories/d/b.txt\n"
        "3\t/memories/d/e"
    )
    await said(store, tenant, "rename", old_path="/memories/d", new_path="/memories/f")
    assert "/memories/f/e/c.txt" in await store.files.all(tenant, "ana")


async def test_what_cannot_be_done_is_said_as_documented(store: MemoryStore, tenant: str):
    await said(store, tenant, "create", path=NOTES, file_text="a\nb\na\n")
    lost = "/memories/lost"
    assert [
        await refused(store, tenant, "view", path=lost),
        await refused(store, tenant, "create", path=NOTES, file_text=""),
        await refused(store, tenant, "str_replace", path=lost, old_str="a", new_str="b"),
        await refused(store, tenant, "str_replace", path=NOTES, old_str="z", new_str="b"),
        await refused(store, tenant, "str_replace", path=NOTES, old_str="a", new_str="b"),
        await refused(store, tenant, "insert", path=lost, insert_line=0, insert_text="b"),
        await refused(store, tenant, "insert", path=NOTES, insert_line=4, insert_text="b"),
        await refused(store, tenant, "delete", path=lost),
        await refused(store, tenant, "rename", old_path=lost, new_path=NOTES),
        await refused(store, tenant, "rename", old_path=NOTES, new_path=NOTES),
    ] == [
        f"The path {lost} does not exist. Please provide a valid path.",
        f"Error: File {NOTES} already exists",
        f"Error: The path {lost} does not exist. Please provide a valid path.",
        f"No replacement was performed, old_str `z` did not appear verbatim in {NOTES}.",
        "No replacement was performed. Multiple occurrences of old_str `a` in lines: 1, 3."
        " Please ensure it is unique",
        f"Error: The path {lost} does not exist",
        "Error: Invalid `insert_line` parameter: 4. It should be within the range of lines of the"
        " file: [0, 3]",
        f"Error: The path {lost} does not exist",
        f"Error: The path {lost} does not exist",
        f"Error: The destination {NOTES} already exists",
    ]


@pytest.mark.parametrize(
    "path",
    [
        "/etc/passwd",
        "memories/a",
        "/memoriesx/a",
        "/memories/../etc",
        "/memories/a/../../b",
        "/memories/./a",
        "/memories//a",
        "/memories/%2e%2e/a",
        "/memories/..\\a",
        "/memories/a\nb",
        "",
        "/",
    ],
)
async def test_no_path_leads_outside(store: MemoryStore, tenant: str, path: str):
    for command, given in {
        "view": {"path": path},
        "create": {"path": path, "file_text": "x"},
        "delete": {"path": path},
        "rename": {"old_path": path, "new_path": "/memories/x"},
    }.items():
        assert "not allowed" in await refused(store, tenant, command, **given)
    await said(store, tenant, "create", path=NOTES, file_text="x")
    assert "not allowed" in await refused(store, tenant, "rename", old_path=NOTES, new_path=path)


async def test_files_and_folders_never_share_a_name(store: MemoryStore, tenant: str):
    await said(store, tenant, "create", path="/memories/a", file_text="x")
    await refused(store, tenant, "create", path="/memories/a/b", file_text="x")
    await said(store, tenant, "create", path="/memories/d/b", file_text="x")
    await refused(store, tenant, "create", path="/memories/d", file_text="x")
    await refused(store, tenant, "rename", old_path="/memories/d", new_path="/memories/d/e")
    await refused(store, tenant, "rename", old_path="/memories/d", new_path="/memories/a/d")


async def test_two_agents_never_lose_each_others_lines(store: MemoryStore, tenant: str):
    await said(store, tenant, "create", path=NOTES, file_text="")
    lines = [f"line {n}" for n in range(12)]
    await asyncio.gather(
        *(
            said(store, tenant, "insert", path=NOTES, insert_line=0, insert_text=f"{line}\n")
            for line in lines
        )
    )
    assert sorted((await store.files.all(tenant, "ana"))[NOTES].split()) == sorted(
        " ".join(lines).split()
    )


async def test_users_and_tenants_have_files_of_their_own(store: MemoryStore, tenant: str):
    await said(store, tenant, "create", path=NOTES, file_text="ana's")
    for where, user in ((tenant, "ben"), (f"{tenant}-other", "ana")):
        assert (await run(store, where, "view", user=user, path=NOTES)).is_error
    assert "0\t/memories" in await said(store, tenant, "view", user="ben", path="/memories")


async def test_there_is_a_limit_to_what_files_hold(store: MemoryStore, tenant: str):
    with pytest.raises(TooLarge):
        await run(store, tenant, "create", path=NOTES, file_text="x" * (MAX_FILE_BYTES + 1))
    for n in range(4):
        path = f"/memories/{n}"
        await said(store, tenant, "create", path=path, file_text="x" * MAX_FILE_BYTES)
    more = await refused(store, tenant, "create", path="/memories/more", file_text="x")
    assert "at most" in more


@pytest.mark.parametrize(
    "command",
    [
        {},
        {"command": "format"},
        {"command": "view"},
        {"command": "view", "path": 3},
        {"command": "insert", "path": NOTES, "insert_line": True, "insert_text": "x"},
        {"command": "delete", "path": NOTES, "force": True},
    ],
)
async def test_a_malformed_command_is_refused(store: MemoryStore, tenant: str, command: dict):
    with pytest.raises(BadStep):
        await store.files.run(tenant, "ana", command)
