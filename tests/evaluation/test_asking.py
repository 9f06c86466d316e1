"""What was paid for is kept, and nothing is paid for twice."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from ivm.errors import LMMError, OutputError
from ivm.evaluation.asking import GIVE_UP, Job, ask_all, read_record
from ivm.lmm import Reply


class Server:
    """Echoes; counts what it is asked; raises what it is told to."""

    def __init__(self):
        self.asked, self.faults = [], {}

    def job(self, key, request=None, **facts):
        request = request or f"request of {key}"

        def ask():
            self.asked.append(request)
            if request in self.faults:
                raise self.faults[request]
            return Reply(f"echo {request}", "m", {"prompt_tokens": 3}, "stop")

        return Job(key, request, ask, facts)


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def record(tmp_path):
    return tmp_path / "answers.jsonl"


@pytest.mark.parametrize("parallel", [1, 4])
def test_every_job_is_asked_once_and_kept(server, record, parallel):
    jobs = [server.job(f"k{n}", number=n) for n in range(9)]
    lines = list(ask_all(jobs, record, parallel))
    assert sorted(line["number"] for line in lines) == list(range(9))
    assert len(server.asked) == 9
    kept = read_record(record)
    assert kept["k3"]["text"] == "echo request of k3"
    assert kept["k3"]["usage"] == {"prompt_tokens": 3}
    assert kept["k3"]["seconds"] >= 0
    assert list(ask_all(jobs, record, parallel)) == []
    assert len(server.asked) == 9


def test_a_reply_of_an_odd_form_is_kept_all_the_same(record):
    (line,) = ask_all([Job("a", "a", lambda: Reply("half a pair: \ud83d", usage=["odd"]))], record)
    assert line["usage"] == {}
    assert read_record(record)["a"]["text"] == "half a pair: \ud83d"


@pytest.mark.parametrize("parallel", [1, 4])
def test_the_same_request_is_sent_once_whoever_asks_it(server, record, parallel):
    jobs = [server.job(f"k{n}", "the same") for n in range(5)]
    lines = list(ask_all(jobs, record, parallel))
    assert len(server.asked) == 1
    assert {line["text"] for line in lines} == {"echo the same"}
    assert sum("same_as" in line for line in lines) == 4
    assert all("usage" not in line for line in lines if "same_as" in line)
    (later,) = ask_all([server.job("later", "the same")], record)
    assert later["same_as"] == "k0"
    assert len(server.asked) == 1


def test_an_error_is_kept_told_and_asked_again(server, record):
    server.faults["bad"] = LMMError("refused")
    jobs = [server.job("a"), server.job("b", "bad"), server.job("c", "bad"), server.job("d")]
    lines = {line["key"]: line for line in ask_all(jobs, record, 2)}
    assert lines["b"]["error"] == lines["c"]["error"] == "refused"
    assert "text" in lines["d"]
    server.faults.clear()
    again = list(ask_all(jobs, record))
    assert {line["key"] for line in again} == {"b", "c"}
    assert all("text" in line for line in again)
    assert all("text" in line for line in read_record(record).values())


def test_what_cannot_be_asked_is_an_error_and_no_request(server, record):
    job = Job("a", "", None, {"question": "q"}, error="the picture is damaged")
    lines = list(ask_all([job, server.job("b")], record))
    assert lines[0]["error"] == "the picture is damaged"
    assert read_record(record)["a"]["error"] == "the picture is damaged"
    assert len(server.asked) == 1


def test_a_server_that_is_down_is_not_asked_on_and_on(server, record):
    jobs = [server.job("first"), *(server.job(f"k{n}", f"bad {n}") for n in range(50))]
    server.faults = {f"bad {n}": LMMError("no route") for n in range(50)}
    with pytest.raises(LMMError, match=f"{GIVE_UP} questions in a row.*no route"):
        list(ask_all(jobs, record))
    assert len(server.asked) == GIVE_UP + 1
    assert "text" in read_record(record)["first"]


def test_a_fault_of_the_program_is_raised_after_the_replies_are_kept(server, record):
    def jobs():
        yield server.job("a")
        yield server.job("b")
        raise RuntimeError("a fault in masking")

    with pytest.raises(RuntimeError, match="a fault in masking"):
        list(ask_all(jobs(), record, 4))
    assert set(read_record(record)) == {"a", "b"}
    server.faults["request of c"] = RuntimeError("a fault in the client")
    with pytest.raises(RuntimeError, match="a fault in the client"):
        list(ask_all([server.job("c"), server.job("d")], record))
    assert "error" in read_record(record)["c"]


def test_a_torn_line_costs_one_question_and_no_other(server, record):
    jobs = [server.job(f"k{n}") for n in range(3)]
    list(ask_all(jobs, record))
    text = record.read_text()
    record.write_text(text[: len(text) - 20])  # the machine stopped while it wrote the third line
    assert set(read_record(record)) == {"k0", "k1"}
    assert [line["key"] for line in ask_all(jobs, record)] == ["k2"]
    assert set(read_record(record)) == {"k0", "k1", "k2"}
    assert len(server.asked) == 4


def test_an_answer_outlives_a_later_error(record):
    lines = [
        {"key": "a", "request": "r", "text": "yes"},
        {"key": "a", "error": "gone"},
        ["no object"],
        {"key": 3},
    ]
    record.write_text("".join(json.dumps(line) + "\n" for line in lines))
    assert read_record(record) == {"a": lines[0]}


def test_ctrl_c_keeps_the_replies_that_are_under_way(server, record):
    told = []

    def slow(key):
        def ask():
            server.asked.append(key)
            if key == "k1":
                os.kill(os.getpid(), signal.SIGINT)
                time.sleep(0.2)  # the handler runs in the main thread meanwhile
            return Reply("answered")

        return Job(key, key, ask)

    before = signal.getsignal(signal.SIGINT)
    with pytest.raises(KeyboardInterrupt):
        list(ask_all([slow(f"k{n}") for n in range(6)], record, 1, told.append))
    assert signal.getsignal(signal.SIGINT) is before
    assert len(told) == 1
    assert server.asked == ["k0", "k1"]
    assert {key: line["text"] for key, line in read_record(record).items()} == {
        "k0": "answered",
        "k1": "answered",
    }
    assert len(list(ask_all([server.job(f"k{n}") for n in range(6)], record))) == 4


def test_a_second_ctrl_c_does_not_wait(record):
    free = threading.Event()

    def ask():
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.2)
        os.kill(os.getpid(), signal.SIGINT)
        free.wait(20)
        return Reply("late")

    start = time.monotonic()
    with pytest.raises(KeyboardInterrupt):
        list(ask_all([Job("a", "a", ask)], record))
    assert time.monotonic() - start < 10
    free.set()
    assert read_record(record) == {}


def test_after_a_second_ctrl_c_the_process_ends(tmp_path):
    script = f"""
import os, pathlib, signal, time
from ivm.evaluation.asking import Job, ask_all

def ask():
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(0.2)
    os.kill(os.getpid(), signal.SIGINT)
    time.sleep(120)

try:
    list(ask_all([Job("a", "a", ask)], pathlib.Path({str(tmp_path / "answers.jsonl")!r})))
except KeyboardInterrupt:
    print("stopped")
"""
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert done.stdout == "stopped\n", done.stderr


def test_a_line_that_the_disk_takes_in_part_is_told(server, record, monkeypatch):
    monkeypatch.setattr(os, "write", lambda file, content, write=os.write: write(file, content[:9]))
    with pytest.raises(OutputError, match="No space left"):
        list(ask_all([server.job("a"), server.job("b")], record))
    assert server.asked == ["request of a"]


def test_two_runs_at_once_are_refused(server, record):
    pytest.importorskip("fcntl")
    first = ask_all([server.job("a"), server.job("b")], record)
    next(first)
    with pytest.raises(OutputError, match="another run"):
        list(ask_all([server.job("b")], record))
    list(first)
    assert len(server.asked) == 2


def test_a_record_that_cannot_be_written_is_told(server, tmp_path):
    with pytest.raises(OutputError, match="cannot write"):
        list(ask_all([server.job("a")], tmp_path / "nowhere" / "answers.jsonl"))
    assert server.asked == []
