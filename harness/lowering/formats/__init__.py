"""One pass for each number format that a plan can ask for; passes do not know each other."""
