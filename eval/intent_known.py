"""What is known in the demo shop of intent-ctr.sh, of customers and of items.

    python eval/intent_known.py OUT until     # prints when the validation part begins, in seconds
    python eval/intent_known.py OUT true      # true/users.csv: what was meant until then
    python eval/intent_known.py OUT read      # read/talk.jsonl: the queries until then, to be read
    python eval/intent_known.py OUT captions  # captions/: closed fields as the catalogue has them

In this shop nothing but a query says for whom something is bought and how dear it may be, so that
reviews and talks, which take as long to read, are left out.
"""

import sys
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq

from llmrec.captions.intent.run import resolved_schema, users_of, write_users
from llmrec.captions.table import CAPTIONS, SCHEMA, STAGE, columns, empty_row
from llmrec.content.schema import load_schema, save_resolved
from llmrec.data.dataset import Dataset
from llmrec.jsonl import read_jsonl, write_jsonl
from llmrec.ranking.ctr.impression_log import TimeSplit
from llmrec.stage import Manifest, writing


def main(out: Path, what: str) -> None:
    """Write it, or print it."""
    dataset = Dataset(out / "dataset")
    if what == "captions":
        write_captions(out / what, dataset)
        return
    until = TimeSplit.of(dataset).validation
    texts = [text for text in read_jsonl(out / "raw" / "talk.jsonl") if text["timestamp"] <= until]
    if what == "until":
        print(until)
    elif what == "read":
        queries = (text for text in texts if text["kind"] == "query")
        write_jsonl(out / what / "talk.jsonl", queries)
    else:
        schema = resolved_schema("intent", out / "dataset")
        meant = {row["text_id"]: row for row in read_jsonl(out / "raw" / "talk_truth.jsonl")}
        sure = dict.fromkeys(schema.names, 1.0)
        rows = [
            text
            | {"fields": {name: meant[text["text_id"]][name] for name in schema.names}}
            | {"probabilities": sure}
            for text in texts
        ]
        write_users(out / what / "users.csv", users_of(rows, schema, until), schema)


def write_captions(folder: Path, dataset: Dataset) -> None:
    """What a captioner would say that is never wrong: the closed fields alone."""
    schema = load_schema("shop").resolved(dataset)
    rows = []
    for item in map(dataset.item, range(dataset.n_items)):
        rows.append(empty_row(item.item_id, schema) | schema.known(item))
    with writing(folder, Manifest(STAGE, {"of": "the catalogue"})) as stage:
        pq.write_table(pa.Table.from_pylist(rows, columns(schema)), stage.folder / CAPTIONS)
        save_resolved(schema, stage.folder / SCHEMA)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
