"""What do gates do to a network that is trained already?"""
