# SPDX-License-Identifier: Apache-2.0
"""factor.form joint-qk-vo: a latent for keys and one for values, each chosen with what meets it.

LatentLLM's joint tensor compression as a choice of its own: core/factor/joint_qk.py for the keys, with the
rank that the queries will have, and core/factor/joint_vo.py for the values, with that of W_O. Keys and values
share nothing here, which costs more than the joint look gains: on the demo at half the cache KL is 1.2 nats
per token, and 0.09 with one latent for both in the metric of the loss.
"""

from torch import Tensor, cat

from core.factor.joint_qk import Scores, joint_qk
from core.factor.joint_qk import spectra as score_spectra
from core.factor.joint_vo import Outputs, joint_vo
from core.factor.joint_vo import spectra as output_spectra
from core.factor.svd import Factors, interleaved


class JointQKVO:
    """The keys that go into the latent, and the values, of one layer; nothing is decomposed yet.

    q_rank and o_rank: the ranks of the queries and of W_O, None where they stay whole.
    """

    def __init__(
        self, scores: Scores, outputs: Outputs, q_rank: int | None = None, o_rank: int | None = None
    ) -> None:
        self._scores, self._outputs = scores, outputs
        self._q_rank, self._o_rank = q_rank, o_rank

    def squares(self) -> Tensor:
        """What each further number saves, as a share of all scores and of all outputs; half on each side."""
        keys = self._scores.key.flatten(0, 1).shape[0]
        values = self._outputs.value.flatten(0, 1).shape[0]
        value = output_spectra(self._outputs)[0][:values]
        if not keys:
            return value / value.sum()
        key = score_spectra(self._scores)[1][:keys]
        return interleaved(key / key.sum(), value / value.sum())

    def factors(self, k_rank: int, v_rank: int) -> Factors:
        """A latent of k_rank + v_rank numbers; k_rank is 0 where every key rotates."""
        value = joint_vo(self._outputs, v_rank, self._o_rank).value
        assert value is not None
        if not k_rank:
            return Factors(value.down, value.up.new_zeros(0, 0), value.up)
        key = joint_qk(self._scores, self._q_rank, k_rank).key
        assert key is not None
        return Factors(cat([key.down, value.down]), key.up, value.up)
