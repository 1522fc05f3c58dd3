"""The watch over what a browser asks for does notice something."""

import browsing


def test_what_a_page_asks_of_another_machine_is_noticed():
    with browsing.chromium() as (browser, asked):
        page = browser.new_page()
        page.set_content("<p>alone</p>")
        page.wait_for_timeout(300)
        assert asked == []
        page.set_content('<img src="http://tiles.example/0.png"><link rel="stylesheet" href="https://fonts.example/">')
        page.wait_for_timeout(500)
        assert any("tiles.example" in line for line in asked)
        assert any("fonts.example" in line for line in asked)
