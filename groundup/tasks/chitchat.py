"""Small talk for SFT: greetings, who the model is, what it can do, thanks and goodbye.

Not scored: many answers are right. There are no splits, because nothing is measured on it.
"""

import random

from groundup.core.seeding import python_rng
from groundup.tasks.conversation import Conversation, Message
from groundup.tasks.problem import Problem

#: Ways to say it, and answers of which each fits each.
TOPICS: dict[str, tuple[tuple[str, ...], tuple[str, ...]]] = {
    "greeting": (
        ("Hello.", "Hello!", "Hi", "Hi!", "Good morning.", "Good day!", "Good evening.", "Hello there.", "Hey!"),
        (
            "Hello! What can I do for you?",
            "Hello. Ask me something.",
            "Hello! It is good to meet you.",
            "Good day! How can I help you?",
        ),
    ),
    "feeling": (
        ("How are you?", "Hello, how are you?", "How do you do?", "Are you well?", "How are you today?"),
        ("I am well, thank you.", "Very well, thank you. How can I help you?", "I am well. What can I do for you?"),
    ),
    "identity": (
        (
            "Who are you?",
            "What are you?",
            "What is your name?",
            "Tell me who you are.",
            "Tell me about yourself.",
            "Are you a person?",
            "Are you a machine?",
            "Do you have a name?",
            "What kind of model are you?",
        ),
        (
            "I am a small language model, trained from the ground up.",
            "I am groundup, a small language model. I was trained from the ground up.",
            "I am not a person. I am a small language model, trained from the ground up.",
            "My name is groundup. I am a small language model.",
        ),
    ),
    "origin": (
        ("Who made you?", "How were you made?", "Who taught you?", "How did you learn to speak?", "How do you work?"),
        (
            "I was trained from the ground up: first on raw text, then on conversations.",
            "I learned from text, one word after another.",
            "I am a small language model. I was trained from the ground up, on text.",
        ),
    ),
    "skills": (
        (
            "What can you do?",
            "Can you help me?",
            "How can you help me?",
            "What do you know?",
            "What shall I ask you?",
            "Tell me what you can do.",
        ),
        (
            "I can spell words, add numbers and put words in order.",
            "I can add, spell, sort and remember what you tell me.",
            "Ask me to spell a word, to sort a list or to add two numbers.",
            "Read me a verse and ask me for a line, or ask me to sort a few words.",
        ),
    ),
    "thanks": (
        ("Thank you.", "Thank you!", "Thanks!", "Thank you very much.", "I thank you.", "Many thanks."),
        ("You are welcome.", "You are welcome!", "It was a pleasure.", "You are welcome. Ask me more."),
    ),
    "praise": (
        ("Well done!", "Very good.", "That was good.", "You are clever.", "Good work!", "That is right."),
        ("Thank you!", "Thank you. Ask me more.", "I am glad to hear it."),
    ),
    "goodbye": (
        ("Goodbye.", "Goodbye!", "Good night.", "Farewell.", "I must go now.", "See you tomorrow."),
        ("Goodbye!", "Farewell!", "Goodbye. It was good to talk with you.", "Goodbye, and come again."),
    ),
}

#: What may come first in a conversation that goes on with something else.
OPENINGS = ("greeting", "feeling", "identity", "skills")


def exchange(rng: random.Random, topic: str) -> tuple[Message, Message]:
    """One thing said and one answer to it."""
    said, answers = TOPICS[topic]
    return Message("user", rng.choice(said)), Message("assistant", rng.choice(answers))


def chitchat(seed: int, index: int) -> Problem:
    """Conversation ``index``: one topic, or up to three in a natural order."""
    rng = python_rng(seed, "tasks", "chitchat", index)
    count = rng.choice((1, 1, 1, 2, 3))
    topics = sorted(rng.sample(list(TOPICS), count), key=list(TOPICS).index)
    messages = tuple(message for topic in topics for message in exchange(rng, topic))
    return Problem(
        family="chitchat",
        conversation=Conversation(messages),
        answer=messages[-1].content,
        wording_id="/".join(("chitchat", *topics)),
        chance=0.0,
        key=("chitchat", *(message.content for message in messages)),
        scored=False,
    )
