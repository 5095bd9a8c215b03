"""Monte Carlo tree search over programs: a plain reference for one question, and many trees in lock step."""
