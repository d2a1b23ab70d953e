"""``llmrec chat``: a shop's assistant on the terminal.

llmrec chat BUNDLE
llmrec chat BUNDLE --dataset DIR --user NAME
llmrec chat BUNDLE --assistant ADAPTER
llmrec chat BUNDLE --assistant-url http://127.0.0.1:8001/v1
llmrec chat BUNDLE --search-index DIR --speech-model whisper-base
echo "something warm for winter" | llmrec chat BUNDLE

``/photo FILE WORDS`` and ``/voice FILE WORDS`` are messages as well; ``/quit`` ends.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from pathlib import Path

from llmrec.content.media.errors import MediaError
from llmrec.content.media.images import decode_image
from llmrec.content.search.query import VOICE_SECONDS
from llmrec.errors import ConfigError, LlmrecError
from llmrec.loop.logs import quiet_transformers
from llmrec.serving.assistant.loop import Assistant, Conversation
from llmrec.serving.assistant.open import OWN, open_assistant, open_models
from llmrec.serving.bundle import Bundle
from llmrec.serving.media_inputs import MAX_PIXELS
from llmrec.serving.one_line import one_line
from llmrec.serving.settings import ServiceConfig
from llmrec.serving.side_models import SideModels

HELP = """Say what you look for. The last list is numbered: "the second one", "compare 1 and 3".
/photo FILE [words]   something that looks like a picture
/voice FILE [words]   a recording
/quit                 end"""
PROMPT = "> "


def chat(
    bundle: Path,
    /,
    user: str | None = None,
    dataset: Path | None = None,
    store: str | None = None,
    assistant: str = OWN,
    assistant_url: str | None = None,
    assistant_model: str = "",
    search_index: Path | None = None,
    speech_model: str | None = None,
    currency: str = "USD",
    verify: bool = True,
) -> None:
    """Talk to a shop's assistant.

    Args:
        bundle: folder of llmrec bundle.
        user: whose taste counts: of --dataset, or of the --store.
        dataset: folder of llmrec ingest that knows --user.
        store: URL of a database of events, people and carts; nothing is kept where none is named.
        assistant: folder of an adapter of the embedded language model, of training/assistant.yaml;
            `own` is the one that comes with llmrec; `none` leaves it to --assistant-url.
        assistant_url: of an OpenAI-compatible endpoint that talks, such as
            http://127.0.0.1:8001/v1; its key is in the variable LLMREC_ASSISTANT_KEY. The embedded
            language model goes on where it fails.
        assistant_model: of that endpoint; the first that it lists where none is named.
        search_index: folder of llmrec search index, for /photo.
        speech_model: a Whisper for /voice, such as whisper-base.
        currency: of the catalogue's prices, as ISO 4217 has it.
        verify: check the sha256 of every file of the bundle first.
    """
    config = ServiceConfig(currency=currency, speech_model=speech_model)
    with quiet_transformers():
        models = open_models(assistant, assistant_url, assistant_model)
        if not models:
            raise ConfigError("--assistant none: nobody talks then; give --assistant-url")
        shop = open_assistant(
            Bundle(bundle, verify=verify),
            models[0],
            dataset=dataset,
            store=store,
            currency=currency,
            fallback=models[1] if len(models) > 1 else None,
            search=search_index,
        )
    recommender = shop.tools.recommender
    if user is not None and recommender.histories is not None:
        _check_user(user, recommender.histories)
    side = SideModels(recommender, config)
    try:
        _talk(shop, side, shop.start(user))
    finally:
        side.close(0.0)


def _check_user(user: str, histories: object) -> None:
    if callable(histories) and histories(user) is None:
        raise ConfigError(f"--user: nothing is known of {user!r}; leave it out, or give --dataset")


def _talk(assistant: Assistant, side: SideModels, conversation: Conversation) -> None:
    if sys.stdin.isatty():
        print(HELP)
    for line in _lines():
        if line in ("/quit", "/exit"):
            return
        if line == "/help":
            print(HELP)
            continue
        try:
            message, picture = _read(line, assistant, side)
        except LlmrecError as error:
            print(error, file=sys.stderr, flush=True)
            continue
        try:
            for piece in assistant.turn(conversation, message, picture):
                if isinstance(piece, str):
                    print(piece, end="", flush=True)
        except KeyboardInterrupt:  # enough of this reply
            print(" ...", end="")
        print(flush=True)


def _lines() -> Iterator[str]:
    """What is typed, or what comes through a pipe."""
    asks = sys.stdin.isatty()
    while True:
        try:
            line = input(PROMPT if asks else "")
        except (EOFError, KeyboardInterrupt):
            print()
            return
        except UnicodeDecodeError:
            print("This is not UTF-8 text; please type it again.", file=sys.stderr)
            continue
        if line.strip() or asks:
            yield line.strip()


def _read(line: str, assistant: Assistant, side: SideModels) -> tuple[str, list[float]]:
    """The words of a line, and the picture that it names.

    Raises:
        ConfigError: for a file that cannot be read, or what nothing here reads.
    """
    command, _, rest = line.partition(" ")
    if command not in ("/photo", "/voice"):
        if command.startswith("/"):
            raise ConfigError(f"{command}: is no command; there is /photo, /voice, /help, /quit")
        return line, []
    name, _, words = rest.strip().partition(" ")
    content = _content(command, name)
    if command == "/voice":
        heard = side.transcribe(command, content, VOICE_SECONDS)[0].text.strip()
        if not heard:
            raise ConfigError(f"/voice: nothing is said in {name}")
        print(f"(heard: {one_line(heard)})")
        return f"{heard} {words}".strip(), []
    search = assistant.tools.recommender.search
    if search is None:
        raise ConfigError("/photo: no pictures are read here; start with --search-index")
    try:
        image = decode_image(content, max_pixels=MAX_PIXELS)
    except MediaError as error:
        raise ConfigError(f"/photo: {error}") from None
    return words.strip(), search.embed([image]).tolist()


def _content(command: str, name: str) -> bytes:
    if not name:
        raise ConfigError(f"{command}: name a file, as in {command} FILE")
    try:
        return Path(name).expanduser().read_bytes()
    except OSError as error:
        raise ConfigError(f"{command}: {name}: {error.strerror or error}") from None
