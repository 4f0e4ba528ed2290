"""The authors' TD-MPC2 checkpoints, as an agent and the weights of its learner, named as in our own checkpoints.

Single-task checkpoints of every size, in the two layouts that the authors' repository has had: critics in a flat list
(until September 2024), and by layer.
"""

import re
from collections.abc import Iterator, Mapping

import numpy as np

from foreplan.agents.tdmpc import TDMPC2
from foreplan.core.errors import UsageError
from foreplan.core.maths import TwoHot
from foreplan.planners.mppi import MPPI
from foreplan.worlds.latent import Network

Arrays = Mapping[str, np.ndarray]
LAYER = ("weight", "bias", "ln.weight", "ln.bias")
NETWORKS = {  # ours, with whether its last layer is normalised: theirs
    ("world/encoder", True): "_encoder.state",
    ("world/dynamics", True): "_dynamics",
    ("world/reward", False): "_reward",
    ("world/continuation", False): "_termination",
    ("world/critics/members", False): "_Qs.params",
    ("target_critics/members", False): "_target_Qs_params",
    ("policy", False): "_pi",
}
DERIVED = r"log_std_(min|dif)|_action_masks|_detach_Qs.*|_target_Qs\..*|.*\.__batch_size|.*\.__device"


def convert(theirs: Arrays) -> tuple[TDMPC2, dict[str, np.ndarray]]:
    """(agent, weights by the names of a flattened `Learner`). Raises UsageError for missing or unknown weights, and for
    checkpoints of many tasks."""
    theirs = _by_layer({name.removeprefix("model."): array for name, array in theirs.items()})
    if "_task_emb.weight" in theirs:
        raise UsageError("this checkpoint is of many tasks; only those of a single task can be read")
    named = {their: our for our, their in _names(theirs)}
    for name in theirs:
        if name not in named and not re.fullmatch(DERIVED, name):
            raise UsageError(f"the checkpoint has weights that TD-MPC2 does not: {name}")
    missing = [name for name in named if name not in theirs]
    if missing:
        raise UsageError(f"the checkpoint lacks {missing[0]}, which TD-MPC2 has")
    ours = {our: np.asarray(theirs[their], np.float32) for their, our in named.items()}
    for name in ours:  # theirs is the log-odds of an end, ours of going on
        if name.startswith("world/continuation/last/"):
            ours[name] = -ours[name]
    return agent(theirs), ours


def agent(theirs: Arrays) -> TDMPC2:
    """The agent that weights of these shapes belong to, with the authors' planner."""
    encoder, dynamics = _layers(theirs, "_encoder.state"), _layers(theirs, "_dynamics")
    return TDMPC2(
        planner=MPPI(temperature=2.0, scale="raw"),  # theirs multiplies by a temperature of 0.5
        network=Network(
            latent=len(theirs[f"_dynamics.{dynamics - 1}.bias"]),
            width=len(theirs["_dynamics.0.bias"]),
            encoder_width=len(theirs["_encoder.state.0.bias"]),
            encoder_layers=encoder,
            layers=dynamics - 1,
            heads=len(theirs["_Qs.params.0.bias"]),
        ),
        two_hot=TwoHot(bins=len(theirs[f"_reward.{_layers(theirs, '_reward') - 1}.bias"])),
    )


def _by_layer(theirs: Arrays) -> dict[str, np.ndarray]:
    """The newer layout. In the older one the critics' weights are numbered through, four a layer but for the last."""

    def rename(name: str) -> str:
        found = re.fullmatch(r"_(target_)?Qs\.params\.(\d+)", name)
        if not found:
            return name
        layer, kind = divmod(int(found[2]), len(LAYER))
        return f"{'_target_Qs_params' if found[1] else '_Qs.params'}.{layer}.{LAYER[kind]}"

    return {rename(name): array for name, array in theirs.items()}


def _layers(theirs: Arrays, network: str) -> int:
    numbers = [int(name.split(".")[-2]) for name in theirs if re.fullmatch(rf"{re.escape(network)}\.\d+\.weight", name)]
    if not numbers:
        raise UsageError(f"the checkpoint lacks {network}, which TD-MPC2 has")
    return max(numbers) + 1


def _names(theirs: Arrays) -> Iterator[tuple[str, str]]:
    """(our name, their name) of every weight that there should be."""
    for (ours, normalised), network in NETWORKS.items():
        if network == "_termination" and not any(name.startswith("_termination.") for name in theirs):
            continue
        last = _layers(theirs, network) - 1
        for layer in range(last + 1):
            place = f"{ours}/last" if layer == last else f"{ours}/blocks/{layer}"
            block = layer < last or normalised
            linear = f"{place}/linear" if block else place
            kinds = [(f"{linear}/weight", "weight"), (f"{linear}/bias", "bias")]
            if block:
                kinds += [(f"{place}/scale", "ln.weight"), (f"{place}/offset", "ln.bias")]
            yield from ((our, f"{network}.{layer}.{their}") for our, their in kinds)
