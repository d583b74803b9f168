"""The verbs of `torsh`: one module each, named after the verb, and what they share."""
