"""`init`: a pipeline.yaml to start from."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from embedmill.cli.options import AsJson, command
from embedmill.cli.output import data, emit, talk
from embedmill.errors import SpecError, StoreDenied

PANEL = "Getting started"

TEMPLATE = """\
# A pipeline: one catalog, one model, one store. Paths start from this file's folder.
# What is commented out has the value that it has anyway, or is an example.

name: {name}

catalog:
  source: items.csv              # a file, a folder or a glob: Parquet, CSV, JSONL or Arrow
  id: id                         # the column that names an item; any scalar type
  display: []                    # columns that searches show, such as [title, price]; they change no vector
  # table: null                  # source may be a database, such as postgresql://me@host/shop: its table
  # query: null                  # or a SELECT instead; passwords come from the environment
  # where: "active = true"       # only these rows
  # format: csv                  # where the file's name does not tell
  # types: {{price: float64}}      # columns of CSV, JSONL and databases that are not to be guessed
  # images: pictures             # the folder that image paths start from
  # image_identity: version      # what tells that an image changed: validator (where absent), version, bytes
  # image_version: updated       # the column that changes with an image, for version
  # thumbnails: null             # such as 96: releases keep JPEGs of the images, so long on the longer side
  # fetch:                       # images by URL, with the extra http
  #   on_error: quarantine       # or keep_previous: the vector of the live release, if there is one
  #   allow: []                  # private hosts that may be asked, such as [images.internal, "10.1.0.0/16"]
  #   connections_per_host: 8    # requests to one host at a time, for each lane of a worker
  #   attempts: 4                # tries at one image, with growing pauses
  #   timeout_s: 30.0            # for one image, all tries together
  #   deadline_s: 900.0          # for the images of 8192 rows of a plan, or of one shard
  #   max_bytes: 33554432        # of one image

model: model                     # a model package: embedmill model import DIR --out model

store: ./mill                    # where runs and releases lie

# What stops a candidate from going live, as shares of the items:
# gates:
#   churn: 0.10                  # deleted or changed since the live release; beyond it the feed is broken
#   quarantine: 0.01             # could not be embedded
#   empty: 0.20                  # had nothing to embed
#   relevance: null              # {{queries: queries.jsonl}}: labelled queries, not to be answered worse

# index:
#   kind: hnsw                   # approximate and fast; flat is exact
#   exact_below: 20000           # segments with fewer vectors are searched exactly anyway
#   links: 32                    # HNSW: links per node
#   build_effort: 128            # HNSW: candidates while building
#   recall: 0.98                 # HNSW: recall@10 that its search effort is chosen for
#   search_effort: null          # HNSW: candidates while searching, instead

# engine: local                  # where workers run; ssh: on idle GPUs; kubernetes: as Jobs; ray: as actors;
#                                # jenkins: as builds; or several, such as [local, ssh]
# fleet: null                    # such as fleet.yaml: those servers
# kubernetes:
#   families: {{cu126: {{workers: 4}}}}   # images of images.yaml, and how many pods each has at most
#   images: images.yaml          # their digests and facts
#   namespace: default           # where Jobs are made
#   context: null                # of the kubeconfig; its current one where absent
#   queue: null                  # a LocalQueue of Kueue
#   priority_class: embedmill-batch       # `embedmill deploy batch` renders one below all others
#   service_account: embedmill-worker     # of the pods, which get no token
#   secret: null                 # a Secret with the variables that open the store; named, never read
#   mounts: {{}}                   # such as {{/mnt/images: CLAIM}}: folders of pods
#   ports: [443]                 # what pods may ask
#   retries: 3                   # how often the cluster tries a failed worker again
#   deadline_s: 86400            # when Jobs end whose run nobody drives any more
#   keep_s: 3600                 # how long an ended Job stays
#   grace_s: 60                  # how long a pod may finish its batch
#   nightly: null                # {{image: NAME@sha256:…}}: a CronJob, for `embedmill deploy batch`
# ray:
#   address: 127.0.0.1:6379      # HOST:PORT of the head; ray://HOST:10001 from a machine that is no node
#   families: {{cpu: {{}}}}          # what workers need of a node, such as {{t4: {{gpus: 1}}}}
#   token_file: null             # such as ray.token; needed unless the host is loopback
#   images: images.yaml          # for families with an image
#   namespace: embedmill         # of the actors
#   shared: []                   # such as [/mnt/mill]: folders that all nodes have
# jenkins:
#   url: https://ci.example.org  # the controller
#   job: team/embedmill-worker   # of the worker/Jenkinsfile that `embedmill deploy jenkins` writes
#   families: {{cpu: {{}}}}          # labels of agents, such as {{gpu-07: {{device: cuda, threads: 4}}}}
#   user: ""                     # whose token it is
#   token_file: null             # such as jenkins.token
#   mounts: []                   # such as [/mnt/mill]: folders that its agents have
# priority: 10                   # its share of the devices where run --all runs several pipelines
# deadline: null                 # such as "06:00": when a release of the last 24 hours should be live
# work:
#   workers: 4                   # processes of one batch at a time; all cores where absent
#   shard_rows: 2048             # rows in a shard, the unit of work and of retry
#   batch_tokens: null           # tokens in a batch of text, padding included: 512, or what was measured
#   batch_images: 16             # images in a batch
#   calibrate: true              # whether a long run measures first what is fastest here
#   attempts: 3                  # workers lost in a row before a run gives up
#   look_again_s: 300.0          # seconds until a run looks for more idle GPUs
#   role: null                   # an IAM role whose keys workers on other servers get: they end
#   role_lasts_s: 3600           # seconds that such keys last
#   lend_keys: false             # whether those workers may get keys that last

# serving:
#   batch_rows: 32               # rows that the model gets at once, at most
#   queue_rows: 256              # rows that wait for a model, at most
#   wait_s: 2.0                  # a request that would wait longer is refused
#   patience: 1.25               # how many times the usual wait is too long while there is too much to do
#   answer_s: 30.0               # a request that is not answered by then is given up
#   max_requests: 256            # requests that are in the server at once
#   max_searches: 64             # searches that wait for a thread
#   requests_per_minute: 600     # of one key, or of one address without keys; no limit where absent
#   max_inputs: 256              # texts, images or rows of one request
#   max_hits: 1000               # the largest k of a search
#   max_characters: 32768        # of one text
#   max_body_bytes: 16777216     # of one request
#   body_s: 10.0                 # a body that is not there by then is given up
#   cache_bytes: 16777216        # memory for vectors of queries that were asked before
#   production:                  # a server that must serve a candidate as it is, before it is live
#     command: [./serve.sh, "{{release}}", "{{port}}"]
#     protocol: oip              # or openai, tf_serving, triton
#     ready: /v2/health/ready    # answers 200 once it is ready
#     ready_s: 300               # how long that may take
#     stop_s: 30                 # how long it may take to end
#     runs_in: .                 # the folder it runs in
#     environment: production.json   # what `embedmill environment --json` printed there

# compact_above: 0.20            # the share of dead and delta rows from which segments become one again
# goldens: 256                   # items whose raw inputs and vectors a release keeps for comparison
"""


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(rich_help_panel=PANEL)(init)


def init(
    folder: Annotated[Path, typer.Argument(help="Made if it is not there.")] = Path(),
    as_json: AsJson = False,
) -> None:
    """Write a commented pipeline.yaml to start from."""
    file = folder / "pipeline.yaml"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        with file.open("x", encoding="utf-8") as out:
            out.write(TEMPLATE.format(name=_name(folder)))
    except FileExistsError:
        hint = "it is left as it is; choose another folder"
        raise SpecError(f"{file if folder.is_dir() else folder}: exists already", hint=hint) from None
    except PermissionError as error:
        raise StoreDenied(f"{error.filename}: permission denied", hint="choose another folder") from error
    if as_json:
        from embedmill.spec.reports import InitReport

        emit(InitReport(file=str(file)))
        return
    data().print(str(file), soft_wrap=True)
    say = talk()
    say.print("\nNext:", style="bold")
    say.print(f"  edit {file}: catalog.source, catalog.id, catalog.display", soft_wrap=True)
    say.print(f"  embedmill model import DIR --out {folder / 'model'}   # a sentence-transformers folder")
    say.print(f"  {command('plan', file)}   # what a run would do", soft_wrap=True)
    say.print(f"  {command('run', file)}   # do it", soft_wrap=True)


def _name(folder: Path) -> str:
    """A pipeline's name made of the folder's."""
    name = re.sub(r"[^a-z0-9._-]+", "-", folder.absolute().name.lower()).strip("-._")
    return name[:63] or "items"
