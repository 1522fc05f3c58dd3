"use strict";
/* Sends one photo at a time, keeps the answers in the page, and shows one of them. */

const MOST_BYTES = 45 * 2 ** 20;
const MOST_PHOTOS = 100;
const find = (selector) => element.querySelector(selector);
const [status, progress, strip] = [find(".status"), find("progress"), find(".strip")];
const choices = { run: find("[name=run]"), level: find("[name=level]"), crops: find("[name=crops]") };
const map = window.geolocationMap(find(".map"), "Map of the guess");

let photos = []; // {file, button, told, error, files, explained, truthful}
let current = null;
let chosen = false; // whether the person has chosen a photo to look at
let asking = 0; // the number of the last request for all photos: answers to an older one are thrown away

const inBase64 = (file) =>
  new Promise((resolve, reject) => {
    const reader = new FileReader();
    reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
    reader.onerror = () => reject(new Error("the file cannot be read"));
    reader.readAsDataURL(file);
  });

const question = async (file) => ({
  name: file.name,
  data: await inBase64(file),
  run: choices.run.value,
  level: choices.level.value,
  crops: Number(choices.crops.value),
});

const answered = async (call) => {
  try {
    return (await call()) || { error: "no answer came: is the app still running?" };
  } catch (error) {
    return { error: `no answer came (${error.message || error}): is the app still running?` };
  }
};

/* What stands there, and is read aloud unless it changes with each photo. */
const say = (words, aloud = true) => {
  status.textContent = words;
  if (aloud) find(".aloud").textContent = words;
};

const option = (value) => Object.assign(document.createElement("option"), { value, textContent: value });
const seconds = (milliseconds) => `${(milliseconds / 1000).toFixed(1)} s`;
const counted = (count, what) => `${count} ${what}${count === 1 ? "" : "s"}`;

/* Whether the levels that came are those of the run that is chosen by then. */
const showLevels = async () => {
  const run = choices.run.value;
  choices.level.disabled = true;
  const told = await answered(() => server.levels({ run }));
  if (run !== choices.run.value) return false;
  choices.level.replaceChildren(...(told.levels || []).map(option));
  choices.level.disabled = false;
  if (told.error) say(told.error);
  return !told.error;
};

const layers = (photo) => {
  if (!photo || !photo.told) return { places: [] };
  if (!photo.truthful) return photo.told.layers;
  const { layers: shown, truth } = photo.told;
  const place = { ...truth.place, label: "where the file says that it was taken", fit: true, above: 900 };
  return { ...shown, places: [...shown.places, place], lines: truth.lines };
};

const show = (photo, go = true) => {
  current = photo;
  for (const each of photos) each.button.setAttribute("aria-current", String(each === photo));
  const told = photo ? photo.told : null;
  const image = find(".view img");
  const picture = told ? (photo.explained ? photo.explained.picture : told.preview) : null;
  if (picture) image.src = picture;
  else image.removeAttribute("src");
  image.alt = told ? (photo.explained ? `What in ${photo.file.name} speaks for ${told.place}: bright where much does` : `Photo ${photo.file.name}`) : "";
  find(".hint").textContent = photo && photo.error ? photo.error : photo ? "This photo is being placed." : "The guess will be here, with how sure it is.";
  find(".place").textContent = told ? told.place : "";
  find(".sure").textContent = told ? told.sure : "";
  find(".remark").hidden = !told || !told.remark;
  find(".remark").textContent = told ? told.remark : "";
  find(".scene").textContent = told && told.scene ? `Scene: ${told.scene}.` : "";
  find(".likeliest").hidden = !told || !told.places.length;
  find(".top").replaceChildren(
    ...(told ? told.places : []).map((place) => {
      const row = document.createElement("li");
      for (const [name, words] of [["rank", place.rank], ["share", place.share], ["name", place.name]]) {
        row.append(Object.assign(document.createElement("span"), { className: name, textContent: words }));
      }
      return row;
    }),
  );
  const [explain, truth] = [find(".explain"), find("button.truth")];
  explain.hidden = !told;
  truth.hidden = !told || !told.truth;
  explain.setAttribute("aria-pressed", String(Boolean(photo && photo.explained)));
  truth.setAttribute("aria-pressed", String(Boolean(photo && photo.truthful)));
  find(".far").textContent = photo && photo.truthful ? `The guess is ${told.truth.far} from where the file says that the photo was taken.` : "";
  map.show(layers(photo), go);
};

const decorate = (photo) => {
  const inside = document.createElement(photo.told ? "img" : "span");
  if (photo.told) Object.assign(inside, { src: photo.told.preview, alt: "" });
  else Object.assign(inside, { className: photo.error ? "mark bad" : "mark", textContent: photo.error ? "✕ not placed" : "…" });
  photo.button.replaceChildren(inside);
  const state = photo.told ? photo.told.place : photo.error || "being placed";
  photo.button.setAttribute("aria-label", `${photo.file.name}: ${state}`);
  photo.button.title = photo.file.name;
};

const summary = () => {
  const placed = photos.filter((photo) => photo.told).length;
  const bad = photos.filter((photo) => photo.error).length;
  for (const name of ["csv", "geojson"]) find(`.${name}`).disabled = !answers().length;
  find(".clear").disabled = !photos.length;
  return bad ? `${counted(placed, "photo")} placed, ${bad} not: choose one with ✕ to see why.` : `${counted(placed, "photo")} placed.`;
};

/* Places all photos that the page has, anew if they were placed by other choices. */
const place = async () => {
  asking += 1;
  const mine = asking;
  find(".again").hidden = true;
  const waiting = photos.filter((photo) => !photo.refused && !photo.told && !photo.error);
  if (!waiting.length) return;
  const start = performance.now();
  progress.hidden = false;
  for (const [number, photo] of waiting.entries()) {
    progress.value = number / waiting.length;
    const left = number ? `, ${seconds(((performance.now() - start) / number) * (waiting.length - number))} left` : "";
    say(`Placing photo ${number + 1} of ${waiting.length}${left}.`, number === 0);
    let asked = null;
    try {
      asked = await question(photo.file);
    } catch (error) {
      photo.error = `${photo.file.name}: ${error.message}. Is it a folder, or was it moved?`;
    }
    const told = asked ? await answered(() => server.place(asked)) : {};
    if (mine !== asking) return;
    if (told.error && !told.csv) {
      // Not the fault of the photo: it waits, with those after it.
      progress.hidden = true;
      find(".again").hidden = false;
      summary();
      say(`${told.error} ${counted(waiting.length - number, "photo")} not placed yet.`);
      return;
    }
    if (told.error) photo.error = told.error;
    else if (asked) photo.told = told;
    photo.files = asked ? told : null;
    decorate(photo);
    if (photo === current || (!chosen && current && current.error && photo.told)) show(photo);
  }
  progress.hidden = true;
  say(summary());
};

const take = (files) => {
  const room = Math.max(0, MOST_PHOTOS - photos.length);
  const taken = [...files].slice(0, room);
  for (const file of taken) {
    const button = Object.assign(document.createElement("button"), { type: "button" });
    const photo = { file, button, told: null, error: null };
    if (file.size > MOST_BYTES) {
      photo.refused = true;
      photo.error = `${file.name} has ${Math.ceil(file.size / 2 ** 20)} MB, and 45 are the most: shrink it.`;
    }
    button.addEventListener("click", () => {
      chosen = true;
      show(photo);
      if (matchMedia("(max-width: 760px)").matches) find(".map").scrollIntoView({ block: "nearest" });
    });
    photos.push(photo);
    const item = document.createElement("li");
    item.append(button);
    strip.append(item);
    decorate(photo);
  }
  if (!current && photos.length) show(photos[0]);
  say(summary(), false);
  const left = files.length - taken.length;
  place().then(() => {
    if (left) say(`${status.textContent} ${counted(left, "photo")} left out: ${MOST_PHOTOS} are the most at once.`);
  });
};

const anew = () => {
  for (const photo of photos.filter((each) => !each.refused)) {
    Object.assign(photo, { told: null, error: null, files: null, explained: null, truthful: false });
    decorate(photo);
  }
  if (current) show(current, false);
  summary();
  place();
};

const input = find("input[type=file]");
input.addEventListener("change", () => {
  take(input.files);
  input.value = ""; // so that the same file can be chosen again
});
const drop = find(".drop");
for (const name of ["dragover", "dragleave", "drop"]) {
  // Of the whole page: a photo that is dropped beside the field would else be opened in its place.
  document.addEventListener(name, (event) => {
    if (!event.dataTransfer.types.includes("Files")) return;
    event.preventDefault();
    drop.classList.toggle("over", name === "dragover");
    if (name === "drop" && element.offsetParent) take(event.dataTransfer.files);
  });
}
strip.addEventListener("keydown", (event) => {
  const step = { ArrowRight: 1, ArrowLeft: -1 }[event.key];
  const next = step && photos[photos.findIndex((photo) => photo.button === event.target) + step];
  if (!next) return;
  event.preventDefault();
  next.button.focus();
  chosen = true;
  show(next);
});
choices.run.addEventListener("change", async () => {
  asking += 1; // what is on its way was asked of the run before
  if (await showLevels()) anew();
});
choices.level.addEventListener("change", anew);
choices.crops.addEventListener("change", anew);

find(".explain").addEventListener("click", async () => {
  const photo = current;
  if (photo.explained) {
    photo.explained = null;
    show(photo, false);
    return;
  }
  const placed = photo.told;
  say("Looking for what speaks for this place.");
  const told = await answered(async () => server.explain(await question(photo.file)));
  if (photo.told !== placed || !photos.includes(photo)) return; // forgotten, or placed anew by other choices meanwhile
  say(told.error || "Bright is what speaks for this place; the picture shows the middle of the photo.");
  if (!told.error) photo.explained = told;
  if (photo === current) show(photo, false);
});
find("button.truth").addEventListener("click", () => {
  current.truthful = !current.truthful;
  show(current);
});

const save = (name, type, text) => {
  const link = document.createElement("a");
  link.href = URL.createObjectURL(new Blob([text], { type }));
  link.download = name;
  link.click();
  setTimeout(() => URL.revokeObjectURL(link.href), 1000);
};
const answers = () => photos.filter((photo) => photo.files).map((photo) => photo.files);
find(".csv").addEventListener("click", () => {
  const rows = answers().map(({ csv }) => csv.slice(csv.indexOf("\n") + 1));
  const [{ csv }] = answers();
  save("places.csv", "text/csv", csv.slice(0, csv.indexOf("\n") + 1) + rows.join(""));
});
find(".geojson").addEventListener("click", () => {
  const features = answers().flatMap(({ geojson }) => JSON.parse(geojson).features);
  save("places.geojson", "application/geo+json", JSON.stringify({ type: "FeatureCollection", features }, null, 1));
});
find(".again").addEventListener("click", () => place());
find(".clear").addEventListener("click", () => {
  asking += 1;
  photos = [];
  strip.replaceChildren();
  progress.hidden = true;
  show(null);
  summary();
  chosen = false;
  find(".again").hidden = true;
  say("The photos are forgotten.");
  input.focus();
});

answered(() => server.runs({})).then(async (told) => {
  if (told.error) {
    say(told.error);
    return;
  }
  choices.run.replaceChildren(...told.runs.map(option));
  find(".use span").textContent = told.use;
  await showLevels();
  element.firstElementChild.dataset.ready = "yes";
});
