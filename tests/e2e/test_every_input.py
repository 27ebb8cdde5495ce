"""A catalog of every kind of column through the whole pipeline, with a model that reads them all."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import yaml
from tests.every_input import ITEM, SCHEMA, every_input_package, every_item, expected
from tests.support.mill import Mill, quarantined

from embedmill import Release
from embedmill.errors import CatalogError
from embedmill.release.runs import open_plans


@pytest.fixture
def mill(tmp_path: Path) -> Mill:
    mill = Mill(tmp_path, every_input_package(tmp_path / "model"), SCHEMA)
    mill.settings["catalog"] = {"source": "items.parquet", "id": "sku", "display": ["title", "price"]}
    return mill


def vectors_of(release: Release) -> dict[str, Any]:
    ids, vectors = release.to_numpy()
    return dict(zip(ids.tolist(), vectors, strict=True))


def assert_as_expected(release: Release, rows: list[dict[str, Any]]) -> None:
    made = vectors_of(release)
    assert set(made) == {row["sku"] for row in rows}
    found = np.array([made[row["sku"]] for row in rows])
    np.testing.assert_allclose(found, expected(rows), rtol=1e-4, atol=1e-4)


def test_the_command_embeds_every_kind_of_input_and_searches(mill: Mill) -> None:
    mill.write(every_item(60))
    mill.open()
    for command in (["run", "pipeline.yaml"], ["search", "pipeline.yaml", "--text", "red lamp"]):
        done = subprocess.run(
            [sys.executable, "-m", "embedmill", *command],
            cwd=mill.root,
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == 0, done.stderr
    assert_as_expected(mill.live(), every_item(60))
    assert {entry.path.split(".")[0] for entry in mill.live().content.goldens} == {
        "goldens/item",
        "goldens/query_text",
    }


def test_only_what_the_encoder_reads_is_computed_again(mill: Mill) -> None:
    rows = every_item(30)
    mill.run(rows)
    dearer = [row | {"price": row["price"] + 1} if row["sku"] == "s4" else row for row in rows]
    assert mill.run(dearer).computed == 1
    stirred = [row | {"materials": "wood,steel"} if row["sku"] == "s1" else row for row in dearer]
    assert mill.run(stirred).computed == 0
    assert_as_expected(mill.live(), stirred)


def test_column_types_that_mean_the_same_compute_nothing_again(mill: Mill) -> None:
    mill.run(every_item(30))
    table = pa.Table.from_pylist(every_item(30), SCHEMA)
    others = {
        "category": pa.dictionary(pa.int8(), pa.string()),
        "tags": pa.large_list(pa.large_string()),
        "price": pa.decimal128(12, 3),
        "stock": pa.int64(),
        "front": pa.large_binary(),
    }
    for name, kind in others.items():
        at = table.schema.get_field_index(name)
        table = table.set_column(at, name, table.column(name).cast(kind))
    pq.write_table(table, mill.root / "items.parquet")
    assert mill.run().computed == 0
    assert_as_expected(mill.live(), every_item(30))


def test_what_no_policy_allows_is_quarantined_with_its_reason(mill: Mill) -> None:
    strict = {
        name: {
            kind: {
                key: value for key, value in spec.items() if key not in {"unknown", "missing", "indicator"}
            }
        }
        for name, section in ITEM.items()
        for kind, spec in section.items()
    }
    strict["price"]["number"] |= {"missing": 1.0, "indicator": "unpriced"}
    document = yaml.safe_load((mill.model / "model.yaml").read_text())
    document["encoders"]["item"] = strict
    (mill.model / "model.yaml").write_text(yaml.safe_dump(document))
    whole = {
        "category": "lamps",
        "tags": ["red"],
        "materials": "wood",
        "stock": True,
        "front": b"",
        "price": 1.0,
    }
    (good,) = every_item(2)[1:]
    good |= whole | {"front": good["front"], "sku": "good"}
    bad: dict[str, dict[str, Any]] = {
        "unknown": {"category": "x" * 500},
        "missing": {"category": ""},
        "tag": {"tags": ["red", "pink", "grey"]},
        "nan": {"price": float("nan")},
        "infinite": {"price": float("-inf")},
        "negative": {"price": -2.0},
        "stock": {"stock": None},
        "file": {"front": None},
    }
    mill.run([good, *({**good, **change, "sku": sku} for sku, change in bad.items())])
    said = {row["id"]: (row["reason"], row["detail"]) for row in quarantined(mill.live())}
    assert said == {
        "unknown": ("value-unknown", f"column 'category': '{'x' * 59}…' is not in the vocabulary"),
        "missing": ("value-missing", "column 'category' has no value"),
        "tag": ("value-unknown", "column 'tags': 'pink' is not in the vocabulary"),
        "nan": ("value-invalid", "column 'price': nan makes no finite float32 for input 'price'"),
        "infinite": ("value-invalid", "column 'price': -inf makes no finite float32 for input 'price'"),
        "negative": ("value-invalid", "column 'price': -2 makes no finite float32 for input 'price'"),
        "stock": ("value-missing", "column 'stock' has no value"),
        "file": ("value-missing", "column 'front' has no file"),
    }
    assert set(vectors_of(mill.live())) == {"good"}


def test_a_column_of_a_wrong_type_stops_the_run_before_it_begins(mill: Mill) -> None:
    """Lists and numbers of a CSV are text until somebody says otherwise."""
    (mill.root / "items.csv").write_text(
        "sku,title,category,tags,materials,price,stock,front,back\ns1,red lamp,lamps,red,wood,1.5,true,,\n"
    )
    mill.settings["catalog"] = {"source": "items.csv", "id": "sku"}
    with pytest.raises(CatalogError, match=r"column 'tags' is string.*give the input a `separator`"):
        mill.planned()
    document = yaml.safe_load((mill.model / "model.yaml").read_text())
    document["encoders"]["item"]["tags"]["categories"]["separator"] = ";"
    (mill.model / "model.yaml").write_text(yaml.safe_dump(document))
    with pytest.raises(CatalogError, match=r"column 'price' is string.*`types: \{price: float64\}`"):
        mill.planned()
    assert list(open_plans(mill.home)) == []
    mill.settings["catalog"]["types"] = {"price": "float64", "stock": "bool"}
    assert mill.run().computed == 1
    row = {
        "sku": "s1",
        "title": "red lamp",
        "category": "lamps",
        "tags": ["red"],
        "materials": "wood",
        "price": 1.5,
    }
    assert_as_expected(mill.live(), [row | {"stock": True, "front": None, "back": None}])


def test_lists_of_json_lines_are_read(mill: Mill) -> None:
    rows = [
        {name: value for name, value in row.items() if name not in {"front", "back"}}
        for row in every_item(12)
    ]
    nothing = {"front": None, "back": None}
    (mill.root / "items.jsonl").write_text("".join(json.dumps(row | nothing) + "\n" for row in rows))
    mill.settings["catalog"] = {"source": "items.jsonl", "id": "sku"}
    mill.run()
    assert_as_expected(mill.live(), [row | nothing for row in rows])


def test_pictures_at_paths_are_pixels_and_bytes_both(mill: Mill) -> None:
    (mill.root / "photos").mkdir()
    rows = every_item(12)
    for row in rows:
        if row["front"] is not None:
            (mill.root / "photos" / f"{row['sku']}.png").write_bytes(row["front"])
    paths = [f"{row['sku']}.png" if row["front"] is not None else None for row in rows]
    table = pa.Table.from_pylist(rows, SCHEMA)
    table = table.set_column(table.schema.get_field_index("front"), "front", pa.array(paths, pa.string()))
    pq.write_table(table, mill.root / "items.parquet")
    mill.settings["catalog"] = {"source": "items.parquet", "id": "sku", "images": "photos"}
    mill.run()
    assert_as_expected(mill.live(), rows)
