"""Commands that change objects, with kubectl's habits: create, apply, replace, edit, label, annotate, expose.

``outcome`` writes objects and tells what became of them, for all of these: one transaction of the store each.
``dry_run`` and ``summary`` are what they share with ``delete``; ``stored`` finds what is there to be changed.
``creating`` puts ``create`` together; each of the others is a command, or two that are alike.
"""
