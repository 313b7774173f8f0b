echo greetings
