"""Makes it happen: claims ready tasks, submits them, observes, settles. Calls services; decides nothing itself."""
