printf("Octave %s\n", version);
