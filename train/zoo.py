"""rl_zoo3 with sb3-contrib's MaskablePPO beside its own algorithms: ``python -m train.zoo --algo ppo_mask ..``.

rl_zoo3's evaluation knows no masks; where an environment has some, train with ``--eval-freq -1``.
"""

from __future__ import annotations

from polar_env.errors import ConfigError

__all__ = ["main"]


def main() -> None:
    """Run rl_zoo3's own training command, with one more algorithm and the environments of this package.

    Raises:
        ConfigError: if rl_zoo3 is not installed.
    """
    try:
        from rl_zoo3.train import train
        from rl_zoo3.utils import ALGOS
    except ImportError as error:
        raise ConfigError("rl_zoo3 is not installed; pip install 'polar-env[rl]'.") from error
    from sb3_contrib import MaskablePPO

    ALGOS["ppo_mask"] = MaskablePPO
    train()


if __name__ == "__main__":
    main()
