"""How long do a step, a training and an hour of trials take, and where does the time go?"""
