from .trainer_callback import TrainerCallback

__all__ = ["TrainerCallback"]
