"""A whole run: what is learned, what the folder holds, and going on after a kill."""

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from coloured_shop import (
    COLOURS,
    picture,
    read_lines,
    tiny_config,
    write_clip,
    write_items,
    write_schema,
    write_shop,
)

from llmrec.captions.inputs import prepare_input, processor_media
from llmrec.captions.prompting import ModelInput, render_prompt
from llmrec.captions.training import trainer
from llmrec.captions.training.llava import load_multimodal, new_multimodal
from llmrec.captions.training.run import run
from llmrec.captions.training.settings import (
    FinetuneConfig,
    MultimodalConfig,
    ProjectorConfig,
    SourceDropout,
)
from llmrec.cli import run_command
from llmrec.content.schema import Schema, load_resolved
from llmrec.loop.graceful_stop import Stopped
from llmrec.stage import Manifest, read_manifest, writing

OVERFIT = 140  # passes over six pictures until they are known by heart


def answer(folder: Path, given: ModelInput) -> dict[str, str]:
    """What a trained model says, greedily, by transformers' own generation."""
    model, processor = load_multimodal(folder)
    schema = read_schema(folder)
    given = prepare_input(processor, given)
    prompt = render_prompt(processor, "attributes", given, schema)
    inputs = processor(text=prompt, return_tensors="pt", **processor_media(given))
    with torch.inference_mode():
        out = model.generate(**inputs, do_sample=False, max_new_tokens=60)
    said = out[0, inputs["input_ids"].shape[1] :].tolist()
    assert said[-1] == processor.tokenizer.eos_token_id
    found: dict[str, str] = json.loads(processor.tokenizer.decode(said[:-1]))
    return found


def read_schema(folder: Path) -> Schema:
    return load_resolved(folder / "schema.json")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A shop, its schema, and a model that has learned its six pictures."""
    home = tmp_path_factory.mktemp("learned")
    dataset, media = write_shop(home)
    config = tiny_config(
        write_schema(home / "schema.yaml"),
        projector=ProjectorConfig(epochs=1),
        finetune=FinetuneConfig(epochs=OVERFIT, lr=3e-3),
        validation_share=0.0,
        batch_size=6,
        logging_steps=20,
    )
    run(config, dataset, home / "model", media_root=media)
    return home


def test_pictures_learned_by_heart_are_told_apart(home: Path) -> None:
    for number, colour in enumerate(COLOURS):
        striped = number % 2 == 1
        said = answer(home / "model", ModelInput(image=picture(colour, striped=striped)))
        assert said == {"colour": colour, "pattern": "striped" if striped else "plain"}


def test_the_answer_is_about_the_picture_and_not_the_words(home: Path) -> None:
    for number, other in ((0, 2), (2, 4)):
        picture_of = ModelInput(image=picture(COLOURS[other]), text=f"Thing {number}")
        assert answer(home / "model", picture_of)["colour"] == COLOURS[other]


def test_the_folder_tells_what_happened(home: Path) -> None:
    folder = home / "model"
    lines = read_lines(folder / "metrics.jsonl")
    losses = [line["loss"] for line in lines if "loss" in line]
    assert losses[-1] < 0.05 < losses[0]
    assert (folder / "loss.png").stat().st_size > 5000
    assert read_schema(folder).values("colour") == list(COLOURS)
    counts = read_manifest(folder, "train-multimodal").counts
    assert counts["trained_on"] == 6 and counts["skipped"] == 0 and counts["steps"] == 1 + OVERFIT
    assert not (folder / "work").exists()


def test_a_finished_run_is_not_repeated(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = read_manifest(home / "model")
    config = tiny_config(
        home / "schema.yaml",
        finetune=FinetuneConfig(epochs=OVERFIT, lr=3e-3),
        validation_share=0.0,
        batch_size=6,
        workers=1,
    )
    run(config, home / "dataset", home / "model", media_root=home / "media")
    assert "train-multimodal: up to date" in capsys.readouterr().out
    assert read_manifest(home / "model").fingerprint == manifest.fingerprint


class Killed(Exception):
    """Ends a run as a kill would."""


def killed_at(monkeypatch: pytest.MonkeyPatch, step: int) -> None:
    """Let the next run end just before the nth update that it makes."""
    plain, made = trainer.MultimodalTrainer._step, []

    def learn(self: Any, batches: Any, rate: float) -> float | None:
        made.append(rate)
        if len(made) == step:
            raise Killed
        return plain(self, batches, rate)

    monkeypatch.setattr(trainer.MultimodalTrainer, "_step", learn)


@pytest.mark.parametrize("keep", ["last", "best"])
def test_a_killed_run_goes_on_to_the_same_end(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, keep: Any
) -> None:
    dataset, media = write_shop(tmp_path, 12)
    config = tiny_config(
        write_schema(tmp_path / "schema.yaml"),
        projector=ProjectorConfig(epochs=2),
        finetune=FinetuneConfig(epochs=2, lr=3e-3),
        drop=SourceDropout(),
        checkpoint_steps=2,
        keep=keep,
    )
    run(config, dataset, tmp_path / "whole", media_root=media)
    for step in (4, 3, 5):  # within the first step, at its end, within the second
        with monkeypatch.context() as patch:
            killed_at(patch, step)
            with pytest.raises(Killed):
                run(config, dataset, tmp_path / "parts", media_root=media)
        assert not (tmp_path / "parts").exists()
    run(config, dataset, tmp_path / "parts", media_root=media)
    for name in ("model.safetensors", "metrics.jsonl", "tokenizer.json"):
        whole, parts = (tmp_path / folder / name for folder in ("whole", "parts"))
        assert whole.read_bytes() == parts.read_bytes(), name
    lines = read_lines(tmp_path / "parts" / "metrics.jsonl")
    steps = [(e["stage"], e["step"]) for e in lines if "loss" in e]
    assert steps == [("projector", n) for n in range(1, 7)] + [("finetune", n) for n in range(1, 7)]


def test_a_run_that_is_asked_to_stop_keeps_its_place(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dataset, media = write_shop(tmp_path, 8)
    config = tiny_config(write_schema(tmp_path / "schema.yaml"), workers=1)
    with monkeypatch.context() as patch:
        patch.setattr(trainer, "stop_requested", lambda: True)
        with pytest.raises(Stopped, match="stopped at step 1 of projector; the same command"):
            run(config, dataset, tmp_path / "out", media_root=media)
    run(config, dataset, tmp_path / "out", media_root=media)
    steps = [e["step"] for e in read_lines(tmp_path / "out" / "metrics.jsonl") if "loss" in e]
    assert steps == [1, 2, 1, 2, 3, 4]


def test_items_held_back_are_measured_field_by_field(tmp_path: Path) -> None:
    dataset, media = write_shop(tmp_path, 20)
    schema = write_schema(tmp_path / "schema.yaml")
    config = tiny_config(schema, validation_share=0.3, keep="best")
    run(config, dataset, tmp_path / "out", media_root=media)
    lines = [e for e in read_lines(tmp_path / "out" / "metrics.jsonl") if "validation_loss" in e]
    assert [(e["stage"], e["epoch"]) for e in lines] == [
        ("projector", 1),
        ("finetune", 1),
        ("finetune", 2),
    ]
    for line in lines:
        both = [line[f"validation_accuracy_{name}"] for name in ("colour", "pattern")]
        assert all(0 <= share <= 1 for share in both)
        assert line["validation_accuracy"] == pytest.approx(sum(both) / 2)
    counts = read_manifest(tmp_path / "out").counts
    assert counts["validated_on"] == 6 and counts["trained_on"] == 14
    best = max(
        (e for e in lines if e["stage"] == "finetune"), key=lambda e: e["validation_accuracy"]
    )
    assert counts["validation_accuracy"] == round(best["validation_accuracy"], 4)


def test_files_that_cannot_be_used_are_told_and_the_rest_is_learned(tmp_path: Path) -> None:
    dataset, media = write_shop(tmp_path, 8)
    (media / "3.png").write_bytes(b"no picture")
    (media / "5.png").unlink()
    config = tiny_config(write_schema(tmp_path / "schema.yaml"), sources=("image",))
    run(config, dataset, tmp_path / "out", media_root=media)
    skipped = {row["item"]: row for row in read_lines(tmp_path / "out" / "skipped.jsonl")}
    assert set(skipped) == {"i3", "i5"} and skipped["i3"]["field"] == "image"
    assert "not a picture" in skipped["i3"]["reason"]
    assert "no such file" in skipped["i5"]["reason"]
    assert read_manifest(tmp_path / "out").counts["skipped"] == 2


def test_items_left_out_are_not_looked_at(tmp_path: Path) -> None:
    dataset, media = write_shop(tmp_path, 8)
    (tmp_path / "leave.txt").write_text("i1\ni6\n")
    for number in (1, 6):
        (media / f"{number}.png").unlink()
    config = tiny_config(write_schema(tmp_path / "schema.yaml"))
    leave = tmp_path / "leave.txt"
    run(config, dataset, tmp_path / "out", media_root=media, leave_out=leave)
    counts = read_manifest(tmp_path / "out").counts
    assert counts["left_out"] == 2 and counts["trained_on"] + counts["validated_on"] == 6
    assert read_lines(tmp_path / "out" / "skipped.jsonl") == []


def test_videos_are_learned_from(tmp_path: Path) -> None:
    dataset, media = write_shop(tmp_path, 3, striped=False, films=True)
    config = tiny_config(
        write_schema(tmp_path / "schema.yaml"),
        video=True,
        projector=ProjectorConfig(epochs=0),
        finetune=FinetuneConfig(epochs=60, lr=3e-3),
        drop=SourceDropout(alone=0.3, image=0.5, video=0.0, text=1.0),
        validation_share=0.0,
        batch_size=6,
        logging_steps=50,
    )
    run(config, dataset, tmp_path / "out", media_root=media)
    from llmrec.content.media.video import sample_frames

    for number, colour in enumerate(COLOURS[:3]):
        clip = sample_frames(media / f"{number}.mp4", 2)
        assert answer(tmp_path / "out", ModelInput(video=clip))["colour"] == colour
        assert answer(tmp_path / "out", ModelInput(image=picture(colour)))["colour"] == colour


def test_what_is_said_of_an_item_is_learned_from(tmp_path: Path) -> None:
    rows = [{"audio": f"{n}.wav", "attributes": ["colour=red", "pattern=plain"]} for n in range(3)]
    dataset = write_items(tmp_path / "dataset", rows)
    said = [{"item": f"i{n}", "text": f"a vermilion jacket {n}"} for n in range(3)]
    with writing(tmp_path / "media", Manifest("embed-media", {})) as stage:
        lines = "".join(json.dumps(row) + "\n" for row in said)
        (stage.folder / "transcripts.jsonl").write_text(lines)
    config = tiny_config(write_schema(tmp_path / "schema.yaml"))
    run(config, dataset, tmp_path / "out", media=tmp_path / "media")
    assert read_manifest(tmp_path / "out").counts["trained_on"] == 2
    assert "vermilion" in (tmp_path / "out" / "tokenizer.json").read_text()


def test_the_command_takes_a_recipe_and_flags(home: Path, tmp_path: Path) -> None:
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(
        "multimodal:\n  base: llava-micro\n  batch_size: 6\n  tasks: {attributes: 1}\n"
        "  projector: {epochs: 0}\n  finetune: {epochs: 1, lr: 1e-3}\n"
    )
    flags = ["--base", "llava-nano", "--schema", str(home / "schema.yaml"), "--seed", "3"]
    places = [f"--dataset={home / 'dataset'}", f"--media-root={home / 'media'}"]
    run_command(["train", "multimodal", str(recipe), *places, f"--out={tmp_path / 'out'}", *flags])
    manifest = read_manifest(tmp_path / "out", "train-multimodal")
    assert manifest.seed == 3 and manifest.config["base"] == "llava-nano"
    assert manifest.config["finetune"]["train"] == "full" and manifest.counts["steps"] == 1


def test_a_trained_model_is_a_base_for_the_next(home: Path, tmp_path: Path) -> None:
    config = tiny_config(home / "schema.yaml", base=str(home / "model"), batch_size=6)
    config = replace(config, finetune=FinetuneConfig(epochs=1, lr=1e-5))
    run(config, home / "dataset", tmp_path / "out", media_root=home / "media")
    assert answer(tmp_path / "out", ModelInput(image=picture("red")))["colour"] == "red"
    counts = read_manifest(tmp_path / "out").counts
    assert counts["validation_accuracy"] == 1.0


def test_the_same_seed_gives_the_same_model(home: Path, tmp_path: Path) -> None:
    def made(name: str, seed: int) -> bytes:
        config: MultimodalConfig = tiny_config(home / "schema.yaml", workers=seed + 1)
        folder = tmp_path / name
        run(config, home / "dataset", folder, media_root=home / "media", seed=seed)
        return (folder / "model.safetensors").read_bytes()

    assert made("a", 0) == made("b", 0) != made("c", 1)


def test_a_fresh_model_takes_over_a_clip(home: Path, tmp_path: Path) -> None:
    folder = write_clip(tmp_path / "clip")
    config = tiny_config(home / "schema.yaml", clip=str(folder))
    config = replace(config, finetune=FinetuneConfig(train="full", epochs=1, tower=False))
    run(config, home / "dataset", tmp_path / "out", media_root=home / "media")
    model, _ = load_multimodal(tmp_path / "out")
    fresh, _ = new_multimodal("llava-nano", clip=folder, texts=["x"])
    mine, given = model.model.vision_tower.state_dict(), fresh.model.vision_tower.state_dict()
    assert all(torch.equal(mine[name], given[name]) for name in given)
