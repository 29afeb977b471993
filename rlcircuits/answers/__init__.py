"""Get a checkpoint's answers to a question set: generate them, or read recorded ones.

`generate.answer_questions` is the entry. In the order of the data flow:

1. `prompting.py` turns questions into prompt token ids, with `chat_template.py` for chat templates.
2. `max_new_tokens.py` fixes the longest answer.
3. `cache.py` finds answers that an earlier run cached: the cache key, the file of each key, and how a run resumes.
4. `engines/` generates the missing answers, batch by batch.
5. `grade_completions.py` decodes and grades each batch, and `cache.py` appends it.

`recorded.recorded_answers` replaces steps 1 to 4 with a file of token ids that any other engine wrote.

The data: `types.py` has `Sampling` (how answers are drawn) and `Answer` (one answer); `answer_file.py` has `Answers`
(all answers of one checkpoint) and the JSON lines that both `Answers.save` and the cache write.
"""

import lazy_loader

__getattr__, __dir__, __all__ = lazy_loader.attach_stub(__name__, __file__)
