"""The ten studies that signs are from, as tables and JSON name them."""

from __future__ import annotations

ALPHA_RL = "On Predictability of RL Dynamics (arXiv 2510.00553)"
ARPO = "ARPO (arXiv 2507.19849)"
CF_RL = "CF-RL (arXiv 2601.04670)"
ECHO_CHAMBER = "Echo Chamber (arXiv 2504.07912)"
ES_AT_SCALE = "Evolution Strategies at Scale (arXiv 2509.24372)"
NAME_ONLY = "RL in Name Only (arXiv 2505.13697)"
NFT = "NFT (arXiv 2505.18116)"
RL_PLUS = "RL-PLUS (arXiv 2508.00222)"
SHUFFLE_R1 = "Shuffle-R1 (arXiv 2508.05612)"
SPARKLE = "SPARKLE (arXiv 2506.04723)"
