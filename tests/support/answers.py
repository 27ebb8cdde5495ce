"""What servers should answer: worked out from each release itself, without a server; and who asks them."""

from __future__ import annotations

import http.client
import json
import random
import threading
import time
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from itertools import combinations
from typing import Any

import numpy as np

from embedmill.release.reader import Release

K = 10
CLOSE = 2e-5
"""Scores are float32, and a text's vector may differ in its last bits with what it was batched with."""


@dataclass(frozen=True)
class Question:
    """A query of `/search`: its kind is `text`, `item` or `vector`."""

    kind: str
    body: Mapping[str, Any]


@dataclass(frozen=True)
class RightAnswers:
    """What one release has to say of itself, and the hits of each question: ids and scores."""

    number: int | None
    model: str
    hits: Sequence[Sequence[tuple[str, float]]]


@dataclass
class AnswerBook:
    """Questions, and for each release the right answers."""

    questions: Sequence[Question]
    releases: dict[str, RightAnswers] = field(default_factory=dict)

    def add(self, release: Release, model: str) -> None:
        """Let a release answer every question."""
        hits = [[(hit.id, hit.score) for hit in _ask(release, question)] for question in self.questions]
        self.releases[release.name] = RightAnswers(release.number, model, hits)

    def told_apart(self) -> float:
        """The share of questions, at least, whose answers tell any two releases apart."""
        shares = []
        for one, other in combinations(self.releases.values(), 2):
            pairs = zip(one.hits, other.hits, strict=True)
            shares.append(sum(not alike(a, b) for a, b in pairs) / len(self.questions))
        return min(shares)

    def fault(self, number: int, status: int, headers: Mapping[str, str], body: bytes) -> str:
        """What is wrong with an answer to a question; "" if nothing is."""
        if status != 200:
            return f"failed: {status} {body[:200]!r}"
        answer = json.loads(body)
        said = headers.get("embedmill-release", "")
        right = self.releases.get(said)
        if right is None or answer["release"] != said:
            return f"mixed: the headers say {said!r}, the body {answer['release']!r}"
        if headers.get("embedmill-model") != right.model:
            return f"digest: {said} with model {headers.get('embedmill-model')}"
        if headers.get("embedmill-release-number") != str(right.number):
            return f"number: {said} with {headers.get('embedmill-release-number')}"
        found = [(hit["id"], hit["score"]) for hit in answer["hits"]]
        if alike(found, right.hits[number]):
            return ""
        others = [name for name, each in self.releases.items() if alike(found, each.hits[number])]
        return f"mixed: says {said}, has the hits of {others or 'none'}"


def alike(found: Sequence[tuple[str, float]], right: Sequence[tuple[str, float]]) -> bool:
    """The same scores in the same places, of the same items but for those that are as near as the last."""
    if len(found) != len(right):
        return False
    if any(abs(mine - theirs) > CLOSE for (_, mine), (_, theirs) in zip(found, right, strict=True)):
        return False
    last = right[-1][1]
    strangers = {name for name, _ in found} ^ {name for name, _ in right}
    return all(abs(score - last) <= CLOSE for name, score in [*found, *right] if name in strangers)


def _ask(release: Release, question: Question) -> Any:
    body = question.body
    if question.kind == "text":
        return release.search(body["text"], k=K)
    if question.kind == "item":
        return release.search(item=body["item"], k=K)
    return release.search(vector=np.asarray(body["vector"], dtype=np.float32), k=K)


def make_questions(ids: Sequence[str], dimension: int, *, each: int, seed: int = 7) -> list[Question]:
    """So many of each kind, mixed; `ids` must be in every release."""
    chance = np.random.default_rng(seed)
    vectors = chance.normal(size=(each, dimension)).astype(np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    found = [Question("item", {"item": name, "k": K}) for name in chance.choice(ids, each, replace=False)]
    found += [Question("vector", {"vector": vector.tolist(), "k": K}) for vector in vectors]
    found += [Question("text", {"text": f"item {n}. all", "k": K}) for n in chance.integers(0, 9999, each)]
    random.Random(seed).shuffle(found)
    return [Question(each.kind, json.loads(json.dumps(each.body, default=str))) for each in found]


@dataclass
class Load:
    """Clients that ask a server all the time, each on connections of its own, and check every answer."""

    url: str
    book: AnswerBook
    threads: int = 3
    text_share: float = 0.15
    pause_s: float = 0.0
    answers: Counter[str] = field(default_factory=Counter)
    by_release: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    slowest_s: float = 0.0
    _stop: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    @property
    def asked(self) -> int:
        """Answers that came so far, or did not."""
        return self.answers.total()

    @contextmanager
    def running(self) -> Iterator[Load]:
        """Ask, until the end of the block."""
        clients = [threading.Thread(target=self._ask, args=(seed,)) for seed in range(self.threads)]
        for client in clients:
            client.start()
        try:
            yield self
        finally:
            self._stop.set()
            for client in clients:
                client.join(150)

    def wait_for(self, answers: int, timeout_s: float = 300) -> None:
        """Until so many more answers came."""
        wanted, deadline = self.asked + answers, time.monotonic() + timeout_s
        while self.asked < wanted:
            assert time.monotonic() < deadline, f"{self.asked} answers of {wanted}"
            time.sleep(0.02)

    def _ask(self, seed: int) -> None:
        chance = random.Random(seed)
        texts, others = self._numbers("text"), [*self._numbers("item"), *self._numbers("vector")]
        connection = self._connect()
        while not self._stop.wait(self.pause_s):
            number = chance.choice(texts if chance.random() < self.text_share else others)
            started = time.monotonic()
            fault, release = "", ""
            try:
                fault, release = self._one(connection, number)
            except (OSError, http.client.HTTPException) as error:
                fault = f"failed: {error!r}"
                connection.close()
                connection = self._connect()
            with self._lock:
                self.answers[self.book.questions[number].kind] += 1
                self.by_release[release] += 1
                self.slowest_s = max(self.slowest_s, time.monotonic() - started)
                if fault:
                    self.faults.append(fault)
        connection.close()

    def _one(self, connection: http.client.HTTPConnection, number: int) -> tuple[str, str]:
        question = self.book.questions[number]
        body = json.dumps(question.body).encode()
        connection.request("POST", "/search", body, {"content-type": "application/json"})
        answer = connection.getresponse()
        data = answer.read()
        headers = {name.lower(): value for name, value in answer.getheaders()}
        fault = self.book.fault(number, answer.status, headers, data)
        return fault, headers.get("embedmill-release", "")

    def _numbers(self, kind: str) -> list[int]:
        return [n for n, question in enumerate(self.book.questions) if question.kind == kind]

    def _connect(self) -> http.client.HTTPConnection:
        return http.client.HTTPConnection(self.url.removeprefix("http://"), timeout=120)
