"""What an inspection looks at beyond whether files can be read: rows, tokens, weights, the teacher's answers.

Nothing here refuses what a user may mean; each look gives findings (`core.findings`).
"""
