"""One passage in the spelling of two centuries."""

import pytest


@pytest.fixture
def modern() -> str:
    return (
        "When I have seen the justice of our sovereign king upon the hill, and heard his music given to "
        "the evening, I have loved the day whereof our fathers spoke; never did any prince so quickly leave "
        "his poor old soldiers unto such a death, nor ever shall the sun behold it more."
    )


@pytest.fixture
def folio() -> str:
    return (
        "When I haue seene the Iustice of our Soueraigne King vpon the Hill, and heard his Musicke giuen to "
        "the Euening, I haue lou'd the day whereof our Fathers spoke; neuer did any Prince so quickly leaue "
        "his poore olde Souldiers vnto such a Death, nor euer shall the Sunne behold it more."
    )
