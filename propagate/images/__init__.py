"""Single pictures: the objects of one labelled picture in other pictures and in videos."""
