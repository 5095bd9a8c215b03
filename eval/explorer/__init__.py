"""The program explorer: ask, look at programs, change them, search shorter ones. `polar explore` serves it."""
