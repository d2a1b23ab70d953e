"""Where a conversation stands, for a client that sends all of its messages each time.

The state after a reply is kept under a hash of everything said so far, so that the next request
finds it whichever process answers, two tabs of one person stay apart, and a message that is edited
goes on from the place where it stands. A cart's number is part of the reply that names it: nobody
comes upon somebody else's by saying the same. Where nothing is kept, the messages are gone through
again, without events and carts.
"""

from __future__ import annotations

import hashlib
import json
import logging
import time
from collections.abc import Sequence

from llmrec.errors import ConfigError
from llmrec.serving.assistant.loop import Assistant, Conversation
from llmrec.serving.assistant.protocol import Said
from llmrec.serving.assistant.state import DialogueState
from llmrec.serving.assistant.turn import Visitor
from llmrec.serving.store import conversations
from llmrec.serving.store.database import Store, StoreError

LOG = logging.getLogger(__name__)
DAY = 86400.0
KEPT = 7 * DAY  # after the last message
REPLAYED = 6  # newest messages of a customer that are gone through again


class Sessions:
    """The states of conversations, in a store.

    Args:
        store: that several services may share.
        assistant: goes through messages again where no state is kept.
    """

    def __init__(self, store: Store, assistant: Assistant) -> None:
        self._store, self._assistant = store, assistant

    def resume(self, visitor: Visitor, said: Sequence[Said]) -> Conversation:
        """The conversation in which all of this was said.

        Args:
            said: without the newest message.
        """
        found = Conversation(visitor, said=list(said))
        if not any(role == "assistant" for role, _ in said):
            return found
        state = self._find(_key(visitor, said))
        if state is None:
            messages = [words for role, words in said if role == "user"]
            state = self._assistant.replayed(visitor, messages[-REPLAYED:])
        found.state = state
        return found

    def keep(self, conversation: Conversation) -> None:
        """Keep what a conversation has come to; a reply is worth more than its state."""
        key, until = _key(conversation.visitor, conversation.said), time.time() + KEPT
        person, state = conversation.visitor.person, conversation.state.as_dict()
        try:
            with self._store.write(synced=False) as connection:
                conversations.put(connection, key, person, state, until)
                conversations.remove_expired(connection, time.time())
        except StoreError as error:
            LOG.error("%s", error)

    def _find(self, key: str) -> DialogueState | None:
        try:
            with self._store.read() as connection:
                found = conversations.find(connection, key, time.time())
            return None if found is None else DialogueState.of_dict(found)
        except (StoreError, ConfigError) as error:
            LOG.error("%s", error)
            return None


def _key(visitor: Visitor, said: Sequence[Said]) -> str:
    spoken = [(role, words.strip()) for role, words in said]
    text = json.dumps([visitor.person, visitor.session, spoken], ensure_ascii=False)
    return hashlib.sha256(text.encode(errors="replace")).hexdigest()
