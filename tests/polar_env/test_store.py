"""Verdicts on disk: shared, kept, and never trusted when damaged."""

from __future__ import annotations

import multiprocessing
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from polar_env.llm import FrozenLLM
from polar_env.program import single_edits
from polar_env.questions import Prompt, Question
from polar_env.runner import Verdict
from polar_env.runner.store import VERSION, VerdictStore, VerdictStoreWarning
from tests.worlds import world_of

SOME = {bytes([n]) * 16: Verdict(n % 2 == 0, -n / 3, (n, 70_000 + n)) for n in range(40)}


def store_in(folder: Path) -> VerdictStore:
    return VerdictStore(folder, "0123456789abcdef-float32")


def test_what_was_put_is_got_by_later_runs(tmp_path: Path) -> None:
    store_in(tmp_path).put(SOME)
    later = store_in(tmp_path)
    assert later.get([*SOME, b"unknown key 1234"]) == SOME
    assert len(later) == len(SOME)


def test_a_second_executor_executes_nothing(
    tiny_llm: FrozenLLM, prompt: Prompt, questions: list[Question], tmp_path: Path
) -> None:
    programs = [tiny_llm.identity, *single_edits(tiny_llm.identity)]
    pairs = [(question, program) for question in questions for program in programs]
    first = world_of(tiny_llm, prompt, store=store_in(tmp_path))
    found = first.verdicts(pairs)
    second = world_of(tiny_llm, prompt, store=store_in(tmp_path))
    assert second.verdicts(pairs) == found
    assert second.stats.executed_layers == 0
    assert second.stats.stored_verdicts == second.stats.cached_verdicts == len(pairs)
    other = world_of(tiny_llm, Prompt(style="bare"), store=store_in(tmp_path))
    other.verdicts(pairs[:5])
    assert other.stats.stored_verdicts == 0  # under another prompt it is another question
    with second.from_nothing():
        second.verdicts(pairs[:5])
    assert second.stats.executed_layers > 0


def test_another_model_has_another_file(tmp_path: Path) -> None:
    store_in(tmp_path).put(SOME)
    assert VerdictStore(tmp_path, "fedcba9876543210-float32").get(list(SOME)) == {}
    assert VerdictStore(tmp_path, "0123456789abcdef-bfloat16").get(list(SOME)) == {}


def damage_page(path: Path) -> None:
    content = bytearray(path.read_bytes())
    content[4096 + 8 : 4096 + 200] = bytes(192)
    path.write_bytes(content)


def damage_header(path: Path) -> None:
    path.write_bytes(b"not a data base" + path.read_bytes()[15:])


def damage_value(path: Path) -> None:
    """One bit of one verdict: SQLite itself does not see it."""
    with sqlite3.connect(path) as connection:
        connection.execute("UPDATE verdicts SET right = 1 - right WHERE key = ?", [next(iter(SOME))])
    connection.close()


def damage_type(path: Path) -> None:
    """A text where a number belongs, which SQLite lets pass."""
    connection = sqlite3.connect(path)
    connection.execute("UPDATE verdicts SET log_prob = 'half'")
    connection.commit()
    connection.close()


def change_table(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute("ALTER TABLE verdicts RENAME TO others")
    connection.commit()
    connection.close()


def make_newer(path: Path) -> None:
    connection = sqlite3.connect(path)
    connection.execute(f"PRAGMA user_version = {VERSION + 1}")
    connection.commit()
    connection.close()


@pytest.mark.parametrize(
    ("damage", "words"),
    [(damage_page, "damaged|malformed"), (damage_header, "not a database"), (damage_value, "checksum"),
     (damage_type, "checksum"), (change_table, "another one"), (make_newer, f"of version {VERSION + 1}")],
)  # fmt: skip
def test_a_file_that_cannot_be_trusted_is_set_aside(tmp_path: Path, damage: object, words: str) -> None:
    store = store_in(tmp_path)
    store.put(SOME)
    store.close()
    damage(store.path)  # type: ignore[operator]
    with pytest.warns(VerdictStoreWarning, match=words):
        assert store.get(list(SOME)) == {}
    assert len(list(tmp_path.glob("*.set-aside"))) == 1
    store.put(SOME)
    assert store_in(tmp_path).get(list(SOME)) == SOME


def test_nothing_is_lost_when_writing_finds_the_damage(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.put(dict(list(SOME.items())[:20]))
    store.close()
    damage_header(store.path)
    with pytest.warns(VerdictStoreWarning):
        store.put(dict(list(SOME.items())[20:]))
    assert store.get(list(SOME)) == dict(list(SOME.items())[20:])


def test_a_process_goes_on_in_the_file_that_another_one_began(tmp_path: Path) -> None:
    one, other = store_in(tmp_path), store_in(tmp_path)
    one.put(dict(list(SOME.items())[:10]))
    assert len(other) == 10
    damage_value(one.path)
    with pytest.warns(VerdictStoreWarning):
        one.get(list(SOME))  # sets the file aside
    one.put(dict(list(SOME.items())[:20]))
    other.put(dict(list(SOME.items())[20:]))
    assert store_in(tmp_path).get(list(SOME)) == SOME


def write_many(folder: str, first: int) -> None:
    store = store_in(Path(folder))
    for n in range(first, first + 200):
        store.put({n.to_bytes(16, "little"): Verdict(True, float(n))})


def test_two_processes_lose_nothing(tmp_path: Path) -> None:
    spawn = multiprocessing.get_context("spawn")
    workers = [spawn.Process(target=write_many, args=(str(tmp_path), first)) for first in (0, 150)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    assert [worker.exitcode for worker in workers] == [0, 0]
    keys = [n.to_bytes(16, "little") for n in range(350)]
    assert store_in(tmp_path).get(keys) == {key: Verdict(True, float(n)) for n, key in enumerate(keys)}


def put_last(store: VerdictStore) -> None:
    store.put(dict(list(SOME.items())[20:]))


def test_a_forked_child_shares_the_file_not_the_connection(tmp_path: Path) -> None:
    store = store_in(tmp_path)
    store.put(dict(list(SOME.items())[:10]))
    child = multiprocessing.get_context("fork").Process(target=put_last, args=(store,))
    child.start()
    store.put(dict(list(SOME.items())[10:20]))
    child.join()
    assert child.exitcode == 0
    assert store.get(list(SOME)) == SOME


def test_what_was_put_outlives_a_process_that_is_killed(tmp_path: Path) -> None:
    code = (
        "import os, signal, sys; from pathlib import Path; from tests.polar_env.test_store import SOME, store_in;"
        "store_in(Path(sys.argv[1])).put(SOME); os.kill(os.getpid(), signal.SIGKILL)"
    )
    assert subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=False).returncode == -9
    assert store_in(tmp_path).get(list(SOME)) == SOME
