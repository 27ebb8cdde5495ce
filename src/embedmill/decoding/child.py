"""`python -m embedmill.decoding.child`: decodes one image after the other for the process that started it.

Standard input is a socket; its end is the end. Arguments: bytes of memory, seconds of processor time an
image, and `die` where the end of the thread that started it is to end it at once.
"""

from __future__ import annotations

import io
import os
import socket
import sys
import warnings
from collections.abc import Callable

from PIL import AvifImagePlugin, Image

from embedmill.decoding.confinement import allow_cpu, confine, die_with_parent
from embedmill.decoding.frames import ANSWER, HELLO, LONGEST_REASON, OUT_OF_MEMORY, PIXELS, REASON, REQUEST
from embedmill.decoding.images import decoded
from embedmill.decoding.recipe import Recipe

Decode = Callable[[memoryview, Recipe], bytes | str]


def main(decode: Decode = decoded) -> None:
    """Serve until the channel ends.

    Args:
        decode: What makes pixels of an image.
    """
    memory_bytes, cpu_s = int(sys.argv[1]), int(sys.argv[2])
    if "die" in sys.argv[3:]:
        die_with_parent()
    _make_ready()
    try:
        with socket.socket(fileno=0) as channel:
            confine(memory_bytes)
            _check(decode)
            channel.sendall(HELLO)
            _silence()
            while _answer(channel, decode, cpu_s):
                pass
    except MemoryError:
        os._exit(OUT_OF_MEMORY)
    except ConnectionError:  # the parent has gone
        os._exit(0)


def _make_ready() -> None:
    """Everything that Pillow would import or start later, when it may not any more."""
    warnings.simplefilter("ignore")  # a damaged image is told of once, by its answer
    Image.preinit()
    Image.MAX_IMAGE_PIXELS = None  # the recipe's limit counts
    AvifImagePlugin.DEFAULT_MAX_THREADS = 1


def _check(decode: Decode) -> None:
    """Decode a good image: who fails here fails because of the machine."""
    stream = io.BytesIO()
    Image.new("RGB", (2, 2), (255, 0, 0)).save(stream, "PNG")
    recipe = Recipe((1, 1), None, "nearest", (0, 0, 0), 4)
    if decode(memoryview(stream.getvalue()), recipe) != b"\xff\0\0":
        raise SystemExit("the decoder fails on a good image")


def _silence() -> None:
    """Libraries complain on standard error, and nobody reads it from now on.

    It is closed and not redirected: nothing else can be opened in its place.
    """
    sys.stderr = None  # what Python would say at the end is lost, too
    os.close(2)


def _answer(channel: socket.socket, decode: Decode, cpu_s: int) -> bool:
    """Read one request and answer it; False at the channel's end."""
    head = _receive(channel, REQUEST.size)
    if not head:
        return False
    recipe_bytes, image_bytes = REQUEST.unpack(head)
    recipe = Recipe.from_bytes(bytes(_receive(channel, recipe_bytes)))
    image = _receive(channel, image_bytes)
    allow_cpu(cpu_s)
    made = decode(memoryview(image), recipe)
    kind, content = (
        (PIXELS, made)
        if isinstance(made, bytes)
        else (REASON, made.encode("utf-8", "replace")[:LONGEST_REASON])
    )
    channel.sendall(ANSWER.pack(kind, len(content)) + content)
    return True


def _receive(channel: socket.socket, count: int) -> bytearray:
    """That many bytes; none where the channel ends before the first."""
    content = bytearray(count)
    done = 0
    while done < count:
        got = channel.recv_into(memoryview(content)[done:])
        if got == 0 and done == 0:
            return bytearray()
        if got == 0:
            raise ConnectionError("the channel ended within a request")
        done += got
    return content


if __name__ == "__main__":
    main()
