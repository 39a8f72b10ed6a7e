"""What SFT, DPO and GRPO share: the run's problems, its previous model, answers to problems."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from groundup.core.errors import ArtifactError
from groundup.corpus import read_documents
from groundup.dataloader.packing import Masked
from groundup.inference import Completion, Engine, Sampling
from groundup.model import Transformer
from groundup.tasks import FAMILIES, Grade, Material, Problem, Split, TaskMixture, grade
from groundup.tokenizer import BytePairTokenizer, ChatTemplate
from groundup.training import find_checkpoint, load_model


def read_material(run: Path) -> Material:
    """The words and verses of the run's corpus, for its problems."""
    splits = ("train", "validation")
    return Material.from_documents(
        *((document.text for document in read_documents(run / "corpus" / f"{split}.jsonl")) for split in splits)
    )


def stage_model(run: Path, stage: str) -> tuple[Transformer, BytePairTokenizer]:
    """The model that a finished stage of the run left.

    Raises:
        ArtifactError: the stage has no checkpoint.
    """
    checkpoint = find_checkpoint(run / stage / "checkpoints")
    if checkpoint is None:
        raise ArtifactError(f"{run / stage} holds no checkpoint; run the stage {stage} first")
    return load_model(checkpoint.folder)


@dataclass(frozen=True)
class Answer:
    """What a model said to a problem."""

    problem: Problem
    completion: Completion
    text: str

    @property
    def stopped(self) -> bool:
        """The model ended its turn by itself."""
        return self.completion.finish_reason == "stop"

    @property
    def grade(self) -> Grade:
        """How it is judged; an answer that did not end is never right."""
        return grade(self.problem, self.text)

    @property
    def reward(self) -> float:
        """1.0 if right and ended, else 0.0."""
        return float(self.stopped and self.grade.correct)


def answer(
    engine: Engine,
    tokenizer: BytePairTokenizer,
    problems: Sequence[Problem],
    sampling: Sampling,
    progress: str | None = None,
) -> list[Answer]:
    """Let the engine's model answer every problem."""
    template = ChatTemplate(tokenizer)
    prompts = [template.prompt(problem.conversation.prompt) for problem in problems]
    completions = engine.generate(prompts, sampling, progress)
    texts = [template.text(completion.ids) for completion in completions]
    return [Answer(*parts) for parts in zip(problems, completions, texts, strict=True)]


def masked(given: Answer, template: ChatTemplate) -> Masked:
    """The ids of a sampled answer after its prompt, and a mask over what was sampled, its end included."""
    prompt = template.prompt(given.problem.conversation.prompt)
    picked = list(given.completion.picked)
    return prompt + picked, [False] * len(prompt) + [True] * len(picked)


def mixture(
    run: Path, split: Split, seed: int, families: Mapping[str, float] | None = None, **options: float
) -> TaskMixture:
    """The run's problems of one split; every family equally often unless ``families`` says otherwise."""
    weights = families or dict.fromkeys(FAMILIES, 1.0)
    return TaskMixture(split, seed, read_material(run), weights, **options)  # type: ignore[arg-type]
