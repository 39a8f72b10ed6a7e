"""The command line: one verb per stage and a few to look and to talk. Nothing but wiring.

People read stderr, programs read stdout. Exit codes: 0 done, 1 failed, 2 wrong use, 130 interrupted.
"""

import contextlib
import difflib
import errno
import io
import os
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import groundup
from groundup.core import heartbeat
from groundup.core.errors import DataError, GroundupError, UsageError
from groundup.core.progress import say

USAGE = """\
groundup {version}: build a large language model from the ground up

  groundup run [RECIPE] [--out DIR] [--key value …]   every stage of a recipe; finished stages are skipped
  groundup STAGE [RECIPE] [--out DIR] [--key value …] one stage: {stages}
  groundup corpus TOOL …                              a corpus by itself: {corpus_tools}
  groundup tokenizer TOOL …                           tokenizers by themselves: {tools}
  groundup plan [RECIPE] [--probe …]                  what a recipe takes: operations, memory, disk, time, money
  groundup profile [RECIPE] [--steps N …]             where the time of a step goes, on every process, and what helps
  groundup pretrain [RECIPE] --find-lr                find a learning rate before a long training
  groundup pretrain [RECIPE] --sweep KEY=A,B,C        train with each value of a key, and compare
  groundup recipes                                    the recipes that come with the package
  groundup status [DIR] [--watch] [--html [FILE]]     what a run has done and how good it is, also while it is at work
  groundup doctor [DIR]                               check this machine; say what is wrong with a run, and what helps
  groundup chat MODEL [--seed N …]                    talk with a model in the terminal
  groundup generate MODEL "prompt" [--max-tokens N …] continue a text
  groundup serve MODEL [--port N …]                   an OpenAI-compatible server on this machine
  groundup inspect MODEL "text" [--out DIR …]         look inside a model: attention, predictions layer by layer
  groundup export MODEL --to hf|gguf [--out PATH …]   write a model for transformers, vLLM, llama.cpp or Ollama
  groundup launch --nproc N [--nodes …] run|STAGE …   the same, by several processes: one for each device
  groundup fetch [NAME …]                             bring a corpus or a vocabulary into the cache; without, list them

  RECIPE is a name or a path to a .toml file; MODEL is a run directory, a checkpoint,
  a Hugging Face folder or a GGUF file.
  `groundup VERB --help` explains every option with its default.
"""

STAGE_NAMES = ("corpus", "tokenizer", "pretrain", "sft", "dpo", "grpo", "evaluate", "report")
#: Words that may follow `tokenizer` instead of a recipe.
TOOL_NAMES = ("train", "encode", "decode", "show", "trace", "compare")
#: Words that may follow `corpus` instead of a recipe.
CORPUS_TOOL_NAMES = ("report", "try", "steps", "sources", "train-classifier", "shard")


@dataclass(frozen=True)
class ServeOptions:
    """Where the server listens."""

    host: str = "127.0.0.1"
    """Address; the default answers to this machine only."""
    port: int = 8000
    """Port."""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run one command; return its exit code."""
    words = list(sys.argv[1:] if arguments is None else arguments)
    with _usable_streams():
        try:
            code = _dispatch(words)
            sys.stdout.flush()
            return code
        except GroundupError as error:
            return _fail(str(error), error.exit_code)
        except KeyboardInterrupt:
            if sys.stderr.isatty():
                say("")  # the terminal has put ^C on the line
            remedy = "; the same command continues where it was" if _continues(words) else ""
            return _fail(f"interrupted{remedy}", 130)
        except BrokenPipeError:  # the reader of our output left, as `| head` does
            return 0
        except OSError as error:
            if error.errno == errno.ENOSPC:
                return _fail("no space left on the disk for the output; free some, then run the same command again", 1)
            return _fail(f"{error.filename or 'the operating system'}: {error.strerror or error}", 1)
        except (MemoryError, RuntimeError) as error:
            from groundup.core.device import means_no_memory

            if isinstance(error, RuntimeError) and not means_no_memory(error):
                raise
            remedy = "set --pretrain.memory.fit (of the stage's section), or lower its rows or the model's size"
            return _fail(f"out of memory; {remedy}", 1)


def _continues(words: list[str]) -> bool:
    """Whether a command that was interrupted goes on where it was when it is given again."""
    if words[:1] == ["tokenizer"] and words[1:2] and words[1] in TOOL_NAMES:
        return words[1] == "train"
    if words[:1] == ["corpus"] and words[1:2] and words[1] in CORPUS_TOOL_NAMES:
        return words[1] == "shard"
    return bool(words) and words[0] in ("run", *STAGE_NAMES)


def _fail(message: str, code: int) -> int:
    """Tell the error in one line; of several processes the launcher, or the first one, tells what all find wrong."""
    message = " ".join(message.split())
    if heartbeat.failed(message, code):
        return code
    if "WORLD_SIZE" in os.environ and (rank := os.environ.get("RANK", "0")) != "0":
        if code == UsageError.exit_code:
            return code
        message = f"process {rank}: {message}"
    say(f"groundup: {message}")
    return code


@contextlib.contextmanager
def _usable_streams() -> Iterator[None]:
    """Output that cannot be written ends quietly, and a character that the terminal lacks becomes a ``?``."""
    if sys.stdout is None or sys.stderr is None or sys.stdin is None:  # closed by whoever started us
        nowhere = open(os.devnull, "r+", encoding="utf-8")  # noqa: PTH123, SIM115
        sys.stdin, sys.stdout, sys.stderr = (stream or nowhere for stream in (sys.stdin, sys.stdout, sys.stderr))
    if isinstance(sys.stdout, io.TextIOWrapper):
        sys.stdout.reconfigure(errors="replace")
    try:
        yield
    finally:
        for stream in (sys.stdout, sys.stderr):
            try:
                stream.flush()
            except OSError:  # what is left in the buffer would only fail again when Python ends
                os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())


def _dispatch(words: list[str]) -> int:
    verbs: dict[str, Callable[[list[str]], int]] = {
        "run": _run,
        **{name: _one_stage(name) for name in STAGE_NAMES},
        "corpus": _corpus,
        "pretrain": _pretrain,
        "tokenizer": _tokenizer,
        "plan": _plan,
        "profile": _profile,
        "recipes": _recipes,
        "status": _status,
        "doctor": _doctor,
        "chat": _chat,
        "generate": _generate,
        "serve": _serve,
        "inspect": _inspect,
        "export": _export,
        "launch": _launch,
        "fetch": _fetch,
    }
    usage = USAGE.format(
        version=groundup.__version__,
        stages=", ".join(STAGE_NAMES),
        tools=", ".join(TOOL_NAMES),
        corpus_tools=", ".join(CORPUS_TOOL_NAMES),
    )
    if not words:
        print(usage, end="", file=sys.stderr)
        return UsageError.exit_code
    if words[0] in ("-h", "--help", "help"):
        print(usage, end="")
        return 0
    if words[0] in ("-V", "--version"):
        print(groundup.__version__)
        return 0
    verb = verbs.get(words[0])
    if verb is None:
        close = difflib.get_close_matches(words[0], verbs, n=1)
        hint = f"did you mean `groundup {close[0]}`?" if close else "`groundup --help` lists what there is"
        raise UsageError(f"unknown command {words[0]!r}; {hint}")
    try:
        return verb(words[1:])
    except SystemExit as leaving:  # after --help
        return leaving.code if isinstance(leaving.code, int) else 0


def _run(words: list[str], only: str | None = None) -> int:
    from groundup.core.run import execute
    from groundup.core.world import joined
    from groundup.pipeline import STAGES
    from groundup.scaling.devices import settled
    from groundup.scaling.words import DEFAULT, asked_of, run_directory, take_option

    given_out, words = take_option(words, "--out")
    asked = asked_of(words)
    recipe = asked.over(asked.base(), f"groundup {only or 'run'} {asked.name or DEFAULT}")
    out = run_directory(Path(given_out) if given_out else None, asked)
    with joined(recipe.parallel) as here:
        settled(recipe, only)
        execute(STAGES, recipe, recipe.seed, out, only)
    if only is None and here.leads:
        _summary(out)
    return 0


def _one_stage(name: str) -> Callable[[list[str]], int]:
    return lambda words: _run(words, only=name)


def _corpus(words: list[str]) -> int:
    """One of the tools, or the stage."""
    from groundup.corpus.pipeline import commands

    name, rest = _positional(words, "")
    if name in commands.ALONE:
        return commands.ALONE[name](rest)
    if name in commands.WITH_RECIPE:
        return _corpus_with_recipe(name, rest)
    if words[:1] in (["-h"], ["--help"]):
        print(commands.usage())
    _refuse_misspelled_tool("corpus", name, CORPUS_TOOL_NAMES)
    return _run(words, only="corpus")


def _corpus_with_recipe(name: str, words: list[str]) -> int:
    from groundup.core.config import parse
    from groundup.corpus.pipeline import commands
    from groundup.scaling.words import DEFAULT, run_directory, split

    kind = commands.WITH_RECIPE[name]
    program = f"groundup corpus {name}"
    if any(word in ("-h", "--help") for word in words):
        print(commands.usage())
        parse(kind, kind(), ["--help"], program, "command line")
    own, asked = split(words, kind)
    options = parse(kind, kind(), own, program, "command line")
    recipe = asked.over(asked.base(), f"{program} {asked.name or DEFAULT}")
    return commands.run(name, recipe.corpus, options, run_directory(getattr(options, "out", None), asked))


def _refuse_misspelled_tool(verb: str, name: str, tools: Iterable[str]) -> None:
    """A first word that is nearly a tool, and no recipe."""
    from groundup.recipes import shipped

    close = difflib.get_close_matches(name, tools, n=1)
    if close and name not in shipped() and not Path(name).exists():
        raise UsageError(f"{name!r} is neither a tool nor a recipe; did you mean `groundup {verb} {close[0]}`?")


def _tokenizer(words: list[str]) -> int:
    """One of the tools, or the stage."""
    from groundup.tokenizer.commands import TOOLS, usage

    name, rest = _positional(words, "")
    if name in TOOLS:
        return TOOLS[name].run(rest)
    if words[:1] in (["-h"], ["--help"]):
        print(usage())
    _refuse_misspelled_tool("tokenizer", name, TOOLS)
    return _run(words, only="tokenizer")


def _plan(words: list[str]) -> int:
    from groundup.scaling.plan import run

    return run(words)


def _profile(words: list[str]) -> int:
    from groundup.scaling.profiling import run

    return run(words)


def _pretrain(words: list[str]) -> int:
    """The stage, or what is tried before it."""
    finds, sweeps = "--find-lr" in words, any(word.partition("=")[0] == "--sweep" for word in words)
    if finds and sweeps:
        raise UsageError("--find-lr and --sweep are two commands; give one of them")
    if finds:
        from groundup.scaling.rates import run

        return run(words)
    if sweeps:
        from groundup.scaling.sweep import run

        return run(words)
    return _run(words, only="pretrain")


def _doctor(words: list[str]) -> int:
    from groundup.diagnosis.command import run

    return run(words)


def _summary(out: Path) -> None:
    """The table at the end of a run, on stderr, and the path of the PDF on stdout."""
    from groundup.monitor.command import print_status
    from groundup.monitor.records import Run

    print_status(Run(out, STAGE_NAMES).update(), pictures=False)
    say(f"\nTalk with it: groundup chat {out}\nRead the whole story:")
    print(out / "report" / "report.pdf")


def _recipes(words: list[str]) -> int:
    from groundup.recipes import load, shipped

    if _asks_help(words, "recipes: the recipes that come with the package and what each is for"):
        return 0
    _no_more(words)
    for name in shipped():
        print(f"{name:12}  {load(name).description}")
    return 0


def _status(words: list[str]) -> int:
    from groundup.monitor.command import run

    return run(words, STAGE_NAMES)


def _chat(words: list[str]) -> int:
    from groundup.core.config import parse
    from groundup.inference import Engine, Sampling
    from groundup.inference.opening import open_model
    from groundup.serving.session import ChatSession
    from groundup.serving.terminal import chat

    path, words = _model_argument(words, "chat")
    sampling = parse(Sampling, Sampling(temperature=0.7, top_p=0.95), words, "groundup chat MODEL", "command line")
    opened = open_model(path)
    template = opened.template
    chat(ChatSession(Engine(opened.model, template.stop_ids), template, sampling))
    return 0


def _generate(words: list[str]) -> int:
    from groundup.core.config import parse
    from groundup.inference import Engine, Sampling
    from groundup.inference.opening import open_model

    path, words = _model_argument(words, "generate")
    prompt, words = _positional(words, None)  # none: from standard input
    default = Sampling(temperature=0.8, max_tokens=128)
    sampling = parse(Sampling, default, words, "groundup generate MODEL PROMPT", "command line")
    opened = open_model(path)
    text = _read_stdin() if prompt is None and not sys.stdin.isatty() else prompt or ""
    ids = opened.ids(text) or sorted(opened.end)[:1]  # a model that begins with nothing continues what has ended
    [completion] = Engine(opened.model, opened.end).generate([ids], sampling)
    print(text + opened.tokenizer.decode(completion.ids))
    return 0


def _read_stdin() -> str:
    try:
        return sys.stdin.read()
    except UnicodeDecodeError as error:
        raise DataError(
            f"standard input is not {error.encoding} text (byte {error.start}); convert it first"
        ) from error


def _serve(words: list[str]) -> int:
    from groundup.core.config import parse
    from groundup.inference import Engine
    from groundup.inference.opening import open_model
    from groundup.serving.api import create_app, serve

    path, words = _model_argument(words, "serve")
    config = parse(ServeOptions, ServeOptions(), words, "groundup serve MODEL", "command line")
    opened = open_model(path)
    template = opened.template
    engine = Engine(opened.model, template.stop_ids)
    serve(create_app(engine, template, path.resolve().name), config.host, config.port)
    return 0


def _inspect(words: list[str]) -> int:
    from groundup.inspection.command import options_of, run

    path, words = _model_argument(words, "inspect")
    text, words = _positional(words, None)  # none: from standard input
    options = options_of(words)
    return run(path, _read_stdin() if text is None and not sys.stdin.isatty() else text or "", options)


def _export(words: list[str]) -> int:
    from groundup.core.config import parse
    from groundup.inference.exporting import ExportOptions, export

    path, words = _model_argument(words, "export")
    print(export(path, parse(ExportOptions, ExportOptions(), words, "groundup export MODEL", "command line")))
    return 0


def _launch(words: list[str]) -> int:
    from groundup.distributed.launch import run

    return run(words)


def _fetch(words: list[str]) -> int:
    from groundup.tokenizer.vocabularies import main as fetch

    return fetch(words)


def _model_argument(words: list[str], verb: str) -> tuple[Path, list[str]]:
    if words[:1] in (["-h"], ["--help"]):
        return Path(), words
    name, rest = _positional(words, None)
    if name is None:
        raise UsageError(
            f"`groundup {verb}` needs a MODEL: a run directory such as runs/quickstart, a Hugging Face folder "
            "or a GGUF file"
        )
    return Path(name), rest


def _positional(words: list[str], default: str | None) -> tuple[Any, list[str]]:
    """The first word if it is not an option, else ``default``; and the other words."""
    if words and not words[0].startswith("-"):
        return words[0], words[1:]
    return default, words


def _asks_help(words: list[str], help_text: str) -> bool:
    if asks := any(word in ("-h", "--help") for word in words):
        print(f"groundup {help_text}")
    return asks


def _no_more(words: list[str]) -> None:
    if words:
        raise UsageError(f"unexpected {words[0]!r}; `groundup --help` shows how each command is used")


if __name__ == "__main__":
    sys.exit(main())
