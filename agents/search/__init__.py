"""Monte Carlo tree search over programs: a readable reference for one question, and many questions in lock step."""
