"""What customers of the demo shop had said when the validation part began, for intent-ctr.sh.

    python eval/intent_known.py OUT true   # users.csv of what was meant, as if every text was read
    python eval/intent_known.py OUT read   # talk.jsonl, the texts of that time, to be read

Prints when that was, in seconds since 1970 UTC.
"""

import sys
from pathlib import Path

from llmrec.captions.intent.run import resolved_schema, users_of, write_users
from llmrec.data.dataset import Dataset
from llmrec.jsonl import read_jsonl, write_jsonl
from llmrec.ranking.ctr.impression_log import TimeSplit


def main(out: Path, way: str) -> None:
    """Write what is known, and print until when."""
    until = TimeSplit.of(Dataset(out / "dataset")).validation
    texts = [text for text in read_jsonl(out / "raw" / "talk.jsonl") if text["timestamp"] <= until]
    if way == "read":
        write_jsonl(out / way / "talk.jsonl", texts)
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
        write_users(out / way / "users.csv", users_of(rows, schema, until), schema)
    print(until)


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
