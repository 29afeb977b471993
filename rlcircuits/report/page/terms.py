"""The legend: the terms of the page, each in one sentence."""

TERMS = (
    ("before, after", "the checkpoint that training started from, and the one that it ended with."),
    ("edge", "what one component (the writer) adds to the residual stream, as another (the reader) takes it in."),
    (
        "edge score",
        "the first-order effect of an edge on the loss, in nats: positive if the loss would rise without the edge, so "
        "that the edge makes the answer more likely.",
    ),
    (
        "writer, reader",
        "embed, attn.3, mlp.3 or mixer.3 (Mamba, linear attention) write; attn.3.q, .k, .v, mlp.3, mixer.3 and logits "
        "read; 3 is the layer.",
    ),
    ("activation intensity", "the mean |score| of a question's edges: how strongly the circuit is active."),
    ("information complexity", "the entropy of the edge scores' histogram: how evenly they are spread over sizes."),
    ("distribution kurtosis", "how much the scores are dominated by a few edges; lower is more even."),
    ("loss", "the mean cross-entropy of the scored answer tokens, in nats. Raw intensity follows it."),
    (
        "noise draw",
        "before with after's readout (final norm and unembedding), and with noise that matches the rest of the update "
        "in size and rescaling: what an update does that taught the layers nothing. It can raise accuracy too, since "
        "it can make answers more certain.",
    ),
    (
        "interval",
        "the range that the true change lies in, with 95 % confidence for metrics and signs, 90 % for accuracy.",
    ),
    (
        "p",
        "how often chance alone would give as much, if nothing had changed; of a vital sign, as much in the direction "
        "of trouble.",
    ),
    ("q", "p after a correction for testing many edges: the share of false finds among edges with a q as small."),
    ("holds, does not hold", "the evidence backs, or speaks against, what the profile asserts of the training."),
    ("inconclusive", "too little evidence either way; more questions may settle it."),
    (
        "the study's pattern",
        "intensity up, complexity up and kurtosis down, as a study (arXiv 2509.21044) found of online RL. Training "
        "without RL can show it too.",
    ),
    ("profile", "what is asserted of an algorithm: the directions of the metrics, and of accuracy."),
    ("pass@k", "the share of questions that at least one of k answers gets right."),
    ("vital sign", "a number from a neighbouring study that warns of one kind of harm."),
    ("funnel", "the stages that leave a question out of the comparison; accuracy is over all questions asked."),
)
"""Term and meaning."""
