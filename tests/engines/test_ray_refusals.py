"""What Ray raises is told in a line that a person can read."""

from __future__ import annotations

from embedmill.engines.ray.refusals import WRONG_TOKEN, refusal

REFUSED = """\
Failed to connect to Ray cluster at 10.0.0.1:6379: Failed to connect to GCS. Last connection error:
Traceback (most recent call last):
  File "node.py", line 996, in _init_gcs_client
    client = GcsClient(
ray.exceptions.AuthenticationError: InvalidAuthToken"""


def test_a_traceback_in_rays_own_words_is_read_and_not_shown() -> None:
    found = refusal(ConnectionError(REFUSED))
    assert (found.kind, found.hint) == ("refused", WRONG_TOKEN)
    said = "Failed to connect to Ray cluster at 10.0.0.1:6379: Failed to connect to GCS."
    assert found.words == said


def test_other_words_are_shown_as_they_are() -> None:
    assert refusal(ConnectionError("the head\nis away")).words == "the head is away"
