"""The Dockerfile that all our images have: wheels become an environment, and nothing that made it stays.

Two stages from one base, which is named by its digest. A private index is a secret of the build, mounted
while pip runs: neither its address nor its password is in a layer. Proxies are build arguments that every
builder knows (HTTPS_PROXY, …), and in no layer either. No `# syntax=` line: it would fetch a frontend.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass, field

from embedmill.errors import SpecError

BASE = re.compile(r"[a-z0-9][a-zA-Z0-9._:/-]*@sha256:[0-9a-f]{64}")
VERSION = re.compile(r"[0-9][0-9A-Za-z.!+-]*")
HOME = "/opt/embedmill"
COMPILERS = "cc gcc g++ clang make"
EPOCH = 315532800
"""1980. Where it is set, Python tells stale bytecode by contents: copies between stages change times, and all
processes would then compile what they import."""
BUNDLE = "/etc/ssl/certs/ca-certificates.crt"

TEMPLATE = """\
# docker build --secret id=pip,src=pip.conf FOLDER     the secret is optional: pip.conf of a private index
ARG BASE={base}

FROM ${{BASE}} AS build
COPY wheels /wheels
COPY {files} /build/
RUN python3 -m venv {home}{before}
RUN --mount=type=secret,id=pip,target=/etc/pip.conf \\
    SOURCE_DATE_EPOCH={epoch} {home}/bin/python -m pip install --no-cache-dir --only-binary=:all: {options}
RUN {home}/bin/python -m pip uninstall --yes --quiet setuptools pip{after}

FROM ${{BASE}}
# A compiler in the base would be in every container.
RUN for tool in {compilers}; do if command -v "$tool"; then exit 1; fi; done
COPY --from=build {home} {home}
{labels}ENV {variables}
USER {user}:{user}
ENTRYPOINT ["embedmill"]
"""


@dataclass(frozen=True)
class Recipe:
    """What differs between images: files that the build reads, and what it does once packages are installed.

    `authority`: the file `ca.pem` in the folder has certificates of the house, for pip and in the image.
    """

    base: str
    user: int
    files: tuple[str, ...] = ("requirements.txt",)
    options: tuple[str, ...] = ()
    steps: tuple[str, ...] = ()
    labels: Mapping[str, str] = field(default_factory=dict)
    authority: bool = False


def dockerfile(recipe: Recipe) -> bytes:
    """The file.

    Raises:
        SpecError: The base is not named by its digest.
    """
    options = ["--find-links=/wheels", *recipe.options, "--requirement=/build/requirements.txt"]
    variables = {"PATH": f"{HOME}/bin:$PATH", "PYTHONDONTWRITEBYTECODE": "1", "PYTHONUNBUFFERED": "1"}
    before = ""
    if recipe.authority:
        before = _bundled()
        variables |= {"SSL_CERT_FILE": f"{HOME}/ca.pem", "REQUESTS_CA_BUNDLE": f"{HOME}/ca.pem"}
    labels = " \\\n      ".join(f"{name}={json.dumps(value)}" for name, value in recipe.labels.items())
    return TEMPLATE.format(
        base=checked_base(recipe.base),
        user=recipe.user,
        home=HOME,
        epoch=EPOCH,
        compilers=COMPILERS,
        files=" ".join((*recipe.files, *(("ca.pem",) if recipe.authority else ()))),
        before=before,
        options=" \\\n    ".join(options),
        after="".join(f" \\\n    && {step}" for step in recipe.steps),
        labels=f"LABEL {labels}\n" if labels else "",
        variables=" ".join(f"{name}={value}" for name, value in variables.items()),
    ).encode()


def checked_base(base: str) -> str:
    """An image by its name and digest.

    Raises:
        SpecError: It has no digest.
    """
    if not BASE.fullmatch(base):
        hint = "NAME@sha256:…, so that it never changes"
        raise SpecError(f"base {base!r}: is not named by its digest", hint=hint)
    return base


def checked_version(version: str, package: str = "embedmill") -> str:
    """A version of Embedmill, or of another package.

    Raises:
        SpecError: It is none.
    """
    if not VERSION.fullmatch(version):
        raise SpecError(f"{package} {version!r}: is not a version", hint="such as 0.1.0")
    return version


def context_files(names: tuple[str, ...]) -> dict[str, bytes]:
    """What lies beside a Dockerfile: the folder for wheels, and what the build may read."""
    return {
        "wheels/README": b"Wheels in this folder are installed beside those of the index.\n",
        ".dockerignore": ("*\n" + "".join(f"!{name}\n" for name in ("wheels", *names))).encode(),
    }


def _bundled() -> str:
    """The house's certificates beside the base's: pip and what runs later take one file."""
    parts = f'for file in {BUNDLE} /build/ca.pem; do if [ -f "$file" ]; then cat "$file"; fi; done'
    return f" \\\n    && {parts} > {HOME}/ca.pem\nENV PIP_CERT={HOME}/ca.pem"
