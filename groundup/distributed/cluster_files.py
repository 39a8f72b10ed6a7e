"""How a launch is handed to a cluster: its options → an ``sbatch`` script for Slurm, a ``TrainJob`` for Kubernetes.

Both start ``groundup launch`` once on each machine, with the first machine as the place where all meet. They are
written to be read, and changed where a cluster asks for more.

Sources: the manual of sbatch (https://slurm.schedmd.com/sbatch.html); the resource ``TrainJob`` of Kubeflow Trainer 2.3
(trainer.kubeflow.org/v1alpha1).
"""

import json
import re
import shlex
import sys
from pathlib import Path
from typing import TYPE_CHECKING

from groundup.core.errors import UsageError
from groundup.core.files import write_text
from groundup.core.version import VERSION

if TYPE_CHECKING:
    from groundup.distributed.launch import LaunchOptions

#: Seconds that a job on Slurm has to save its state before its time is up.
_NOTICE = 300

_SLURM = """\
#!/bin/bash
# Written by groundup {version}. Look it over, add what your cluster asks for, and hand it in with `sbatch`.
#
# When the time is nearly up, training saves its state and the job goes back into the queue, to continue from there.
# So it does where Slurm takes the machines away for other jobs, or one of them fails (--requeue).

#SBATCH --job-name=groundup
#SBATCH --nodes={nodes}
#SBATCH --ntasks-per-node=1          # one launcher on each machine, which starts a process for each accelerator
#SBATCH --gpus-per-node={nproc}
#SBATCH --exclusive
#SBATCH --time={hours}:00:00
#SBATCH --signal=B:USR1@{notice}        # so many seconds before the end, to this script
#SBATCH --requeue
#SBATCH --open-mode=append
{more}
first=$(scontrol show hostnames "$SLURM_JOB_NODELIST" | head -n 1)
port=$((20000 + SLURM_JOB_ID % 10000))

srun {python} -m groundup.cli launch \\
  --nodes {nodes} --nproc {nproc} --rendezvous "$first:$port" --job "$SLURM_JOB_ID" \\
  --restarts {restarts} --timeout {timeout} --logs "slurm-$SLURM_JOB_ID" \\
  {command} &
step=$!

out_of_time=
trap 'out_of_time=yes; kill -TERM "$step"' USR1    # srun hands it on to the launchers, and these to all processes
trap 'kill -TERM "$step"' TERM
while kill -0 "$step" 2>/dev/null; do
  wait "$step"    # until it ends, or one of the signals comes
done
wait "$step"
code=$?
if [ -n "$out_of_time" ] && [ "$code" -ne 0 ]; then
  scontrol requeue "$SLURM_JOB_ID"
fi
exit "$code"
"""

_KUBERNETES = """\
# Written by groundup {version} for Kubeflow Trainer 2.2 or newer: kubectl create -f FILE
#
# The image must have groundup and its PyTorch; the claim is a disk that all machines share (ReadWriteMany).
apiVersion: trainer.kubeflow.org/v1alpha1
kind: TrainJob
metadata:
  name: {name}
spec:
  runtimeRef:
    name: torch-distributed
  trainer:
    image: {image}
    numNodes: {nodes}
    resourcesPerNode:
      limits:
        nvidia.com/gpu: {nproc}
    # One launcher on each machine, which starts a process for each accelerator; Kubeflow says where they meet.
    command:
{command}
  runtimePatches:
    - manager: groundup.io/launch
      trainingRuntimeSpec:
        template:
          spec:
            replicatedJobs:
              - name: node
                template:
                  spec:
                    template:
                      spec:
                        terminationGracePeriodSeconds: {timeout}  # to save the state
                        containers:
                          - name: node
                            volumeMounts:
                              - name: shared
                                mountPath: {mount}
                              - name: memory
                                mountPath: /dev/shm
                        volumes:
                          - name: shared
                            persistentVolumeClaim:
                              claimName: {claim}
                          - name: memory  # by which NCCL's processes talk on one machine
                            emptyDir:
                              medium: Memory
"""


def write(options: "LaunchOptions", command: list[str]) -> Path:
    """Write the file that the options ask for.

    Raises:
        UsageError: something that the cluster must know is missing, or the file exists.
    """
    flag = "--slurm" if options.slurm else "--k8s"
    path = Path(options.slurm or options.k8s)
    if options.slurm and options.k8s:
        raise UsageError("--slurm and --k8s are two files; give one of them")
    if not options.nproc:
        raise UsageError(f"{flag} needs --nproc, the number of accelerators of each machine")
    if path.exists():
        raise UsageError(f"{path} exists; delete it, or give {flag} another name")
    write_text(path, _slurm(options, command) if options.slurm else _kubernetes(options, command))
    return path


def _slurm(options: "LaunchOptions", command: list[str]) -> str:
    more = {"partition": options.partition, "account": options.account}
    return _SLURM.format(
        version=VERSION,
        nodes=options.nodes,
        nproc=options.nproc,
        hours=options.hours,
        notice=_NOTICE,
        more="".join(f"#SBATCH --{key}={value}\n" for key, value in more.items() if value),
        python=shlex.quote(sys.executable),
        restarts=options.restarts,
        timeout=options.timeout,
        command=shlex.join(command),
    )


def _kubernetes(options: "LaunchOptions", command: list[str]) -> str:
    claim, _, mount = options.volume.partition(":")
    if not options.image or not claim or not mount.startswith("/"):
        raise UsageError(
            "--k8s needs --image NAME, a container image that has groundup and its PyTorch, and --volume CLAIM:/PATH, "
            "a disk that all machines share and where it is mounted"
        )
    out = next((after for word, after in zip(command, [*command[1:], ""], strict=True) if word == "--out"), "")
    if not Path(out).is_relative_to(mount):
        raise UsageError(f"--k8s needs a run directory on the shared disk; give the command --out {mount}/NAME")
    name = options.job or "groundup"
    if not re.fullmatch(r"[a-z]([-a-z0-9]{0,48}[a-z0-9])?", name):
        raise UsageError(f"--job {name!r} is no name for Kubernetes; use small letters, digits and hyphens")
    own = ["groundup", "launch", "--nodes", str(options.nodes), "--nproc", str(options.nproc), "--job", name]
    own += ["--rendezvous", "$(PET_MASTER_ADDR):$(PET_MASTER_PORT)"]
    own += ["--restarts", str(options.restarts), "--timeout", str(options.timeout)]
    return _KUBERNETES.format(
        version=VERSION,
        name=name,
        image=json.dumps(options.image),
        nodes=options.nodes,
        nproc=options.nproc,
        command="\n".join(
            f"      - {json.dumps(word)}" for word in own + [word.replace("$(", "$$(") for word in command]
        ),
        timeout=options.timeout,
        mount=json.dumps(mount),
        claim=json.dumps(claim),
    )
