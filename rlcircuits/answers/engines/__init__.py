"""Engines generate answers: prompt token ids in, answer token ids out.

`engine.py` defines the protocol `Engine`, `registry.py` opens an engine by its name, `huggingface.py`, `vllm.py` and
`openai.py` are the three engines. `openai_server.py` talks to the server of the last, and `served.py` says where it is.
`model_folder.py` gives an engine that loads a folder by itself the folder of any model.
To add an engine, write a module with a class that implements `Engine`, and add a line to `ENGINES` in `registry.py`.
Prompts, batches, decoding, grading and caching are outside of the engines and the same for all of them.
"""
