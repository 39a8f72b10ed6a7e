"""Problems with checkable answers, shared by SFT data, preference pairs, rewards and evaluation.

A corpus's own words and verses enter (:class:`Material`); conversations with a reference answer leave, one for every
(seed, split, family, index), with a reward for any other answer.
"""

from groundup.tasks.conversation import Conversation, Message, Role
from groundup.tasks.material import Material
from groundup.tasks.mixture import FAMILIES, TRAINING_WEIGHTS, TaskMixture
from groundup.tasks.problem import Grade, Problem, Split, Task, grade, normalise, reward, split_of

__all__ = [
    "FAMILIES",
    "TRAINING_WEIGHTS",
    "Conversation",
    "Grade",
    "Material",
    "Message",
    "Problem",
    "Role",
    "Split",
    "Task",
    "TaskMixture",
    "grade",
    "normalise",
    "reward",
    "split_of",
]
