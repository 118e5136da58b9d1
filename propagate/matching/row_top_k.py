"""The exact top k of long rows of numbers, faster than sorting them whole."""

import math

import torch
import torch.nn.functional as F


def group_size(keys: int, top_k: int) -> int:
    """Choose how many keys share one maximum: about sqrt(keys / top_k) sorts the fewest numbers."""
    return 2 ** max(2, round(math.log2(keys / top_k) / 2))


def top_of_rows(similarity: torch.Tensor, k: int, group: int) -> tuple[torch.Tensor, torch.Tensor]:
    """Find the exact top k of each row of (n, m); m is a multiple of `group`.

    The k best keys lie in the k groups with the best maxima. A group is every (m / group)-th key,
    because maxima over whole rows of keys are cheap. Fewer than k keys are padded with -inf.
    """
    groups = similarity.unflatten(1, (group, -1))  # (n, group, m / group)
    kept = min(k, groups.shape[2])
    _, held = groups.amax(1).topk(kept, sorted=False)  # (n, kept)
    pooled = groups.gather(2, held[:, None].expand(-1, group, -1)).flatten(1)
    found = min(k, similarity.shape[1])
    best, place = pooled.topk(found)  # (n, found)
    column = place // kept * groups.shape[2] + held.gather(1, place % kept)
    if found < k:
        best = F.pad(best, (0, k - found), value=-torch.inf)
        column = F.pad(column, (0, k - found))
    return best, column
